"""Other ways to write the same film, for training: what says nothing about genres should not be learned from.

A name, "he" or "she", a slip of the keyboard: none of them changes what kind of film it is. Read with other names and
other slips each time, a description teaches that (the invariances of CheckList, Ribeiro et al. 2020).
"""

import random
import re

_FEMALE = """
Abigail Adele Agnes Aisha Alexandra Alice Alicia Alina Amanda Amelia Amy Ana Andrea Angela Angelica Anita Anna Anne
Annie Antonia Ayesha Barbara Beatrice Becky Bella Bernadette Beth Betty Bianca Bridget Camila Carla Carmen Carol
Caroline Catherine Cecilia Celeste Charlotte Chloe Christina Christine Claire Clara Claudia Daisy Dana Daniela Deborah
Diana Dolores Dora Dorothy Edith Eleanor Elena Eliza Elizabeth Ella Ellen Elsa Emma Erica Esther Eva Evelyn Fiona
Florence Frances Francesca Gabriela Georgia Gertrude Gloria Gwen Hana Harriet Helen Helena Holly Ida Irene Iris Isabel
Isabella Jackie Jane Janet Jasmine Jennifer Jenny Jessica Jill Joan Joanna Josephine Joyce Judith Judy Julia Julie
Juliet Kanako Karen Kate Katherine Kathleen Katie Kavita Kelly Kristen Laura Lauren Lena Leonora Lily Linda Lisa Liv
Liz Lola Louise Lucy Lydia Madeleine Maggie Mai Margaret Maria Marie Marina Martha Mary Matilda Maya Megan Melanie
Melissa Meera Michelle Millie Miranda Molly Monica Nadia Nancy Naomi Natalie Natasha Nell Nicole Nina Nora Olivia
Pamela Patricia Paula Penelope Phoebe Polly Rachel Rebecca Renata Rita Ruth Sabrina Sally Samantha Sandra Sara Sarah
Selena Sharon Shirley Simone Sofia Sonia Sophia Sophie Stella Stephanie Susan Susanna Sylvia Tamara Tanya Teresa Tessa
Tina Tomoko Tracy Valentina Valerie Vanessa Vera Veronica Victoria Vivian Wanda Wendy Xiulan Yasmin Yolanda Zainab Zoe
""".split()  # noqa: SIM905
_MALE = """
Aaron Abdul Abel Abraham Adam Adrian Ahmed Akira Alan Albert Alejandro Alex Alexander Alexei Alfred Ali Andre Andrew
Andy Angelo Anthony Antonio Archie Arnold Arthur Barry Ben Benjamin Bernard Billy Bob Bobby Boris Brad Brandon Brian
Bruce Carl Carlos Charles Charlie Christopher Clark Clyde Colin Connor Craig Daniel Danny Darius Dean Derek Donald
Douglas Dylan Ed Eddie Edgar Eduardo Edward Eli Elliot Emil Enrique Eric Ernest Ethan Eugene Evan Felix Fernando
Francis Francisco Frank Fred Frederick Gary George Gerald Gilbert Gordon Greg Gregory Gustav Hamid Hans Harold Harry
Harvey Hector Henry Herbert Hiroshi Howard Hugh Hugo Ian Igor Ivan Jack Jacob Jake Jason Javier Jeff Jeremy Jerry
Jesse Jim Jimmy Joe Joel John Johnny Jonah Jonathan Jorge Jose Joseph Josh Joshua Juan Julian Kareem Karl Keith Ken
Kenneth Kevin Kofi Larry Lawrence Leo Leon Leonard Leroy Lewis Liam Lin Louis Lucas Luis Luke Malcolm Marcus Mario
Martin Marvin Matt Matthew Maurice Mehmet Miguel Mike Mikhail Milo Mohammed Morris Nathan Ned Neil Nicholas Nick
Nikolai Noah Norman Oliver Oscar Otto Owen Pablo Patrick Paul Pedro Pete Peter Phil Philip Pierre Rafael Rajesh Ralph
Ramon Raymond Ricardo Richard Rick Robert Roberto Robin Roger Roland Roman Ron Ronald Roy Rudy Russell Ryan Sam Samir
Samuel Santiago Scott Sean Sebastian Sergei Seth Simon Stanley Stefan Stephen Steve Steven Stuart Ted Terry Theo
Theodore Thomas Tim Timothy Tobias Todd Tom Tommy Tony Tyler Vernon Victor Vijay Vincent Vladimir Walter Warren Wesley
William Winston Xavier Yusuf Zachary
""".split()  # noqa: SIM905
_LAST = """
Achebe Adams Ahmadi Alvarez Andersson Armstrong Baker Balogun Barnes Becker Bennett Bergman Boateng Borges Bradley
Brooks Bruno Burke Byrne Campbell Carter Castro Chang Chavez Chopra Clarke Coleman Collins Conti Cooper Costa Cruz
Davies Delgado Desai Diaz Doyle Duarte Edwards Ellis Eriksson Evans Farouk Ferrari Fischer Fletcher Flores Foster
Fournier Franklin Fraser Fujimoto Garcia Gibson Gonzalez Graham Greco Gupta Haas Hale Hamilton Harris Hayashi
Henderson Herrera Hoffman Holmberg Hughes Hussein Ibrahim Ito Ivanov Jackson Jensen Jimenez Johnson Jovanovic Kapoor
Kaya Keller Kennedy Khan Klein Kovacs Kruger Kumar Larsen Lawson Leclerc Lee Lin Lopez Lund Malik Mancini Marchetti
Martinez Mazur McCarthy Mehta Mendoza Meyer Miller Mitchell Molina Moreau Morgan Moyo Mueller Nakamura Navarro Nielsen
Novak Obi Ortega Osman Palmer Papadakis Patel Pereira Perez Peterson Popov Powell Quinn Ramirez Rao Reid Reyes Riley
Rivera Roberts Robinson Romero Ruiz Russo Salazar Sanchez Santos Sato Schmidt Schneider Scott Sharpe Shepherd Simmons
Soto Stewart Sullivan Suzuki Takahashi Thompson Torres Turner Ueda Usman Varga Vasquez Virtanen Volkov Wagner Wang
Watson Webb Wilson Wong Wright Xu Yang Yoshida Young Zhao Ziegler Zimmermann
""".split()  # noqa: SIM905
_FIRST = {name: names for names in (_FEMALE, _MALE) for name in names}
_SHE = {"he": "she", "him": "her", "his": "her", "himself": "herself"}
_HE = {"she": "he", "hers": "his", "herself": "himself"}  # "her" is "him" or "his"
_PRONOUN = re.compile(
    r"\b(?:he|him|his|himself|she|hers|herself"
    r"|her(?P<of> (?!(?:again|alone|and|as|at|away|back|but|by|down|for|from|her|his|how|if|in|into|off|on|or|out|over"
    r"|so|that|to|up|what|when|while|who|why|with)\b)(?=\w))?)(?(of)|\b)",
    re.IGNORECASE,
)
_PERSON = re.compile(rf"(?<!\bSan )(?<!\bSanta )\b({'|'.join(_FIRST)})\b( [A-Z][a-z]+(?:-[A-Z][a-z]+)?\b)?")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def other_people(text: str, draw: random.Random) -> str:
    """The same story of other people: known first names and the last names behind them change, the same way throughout.

    In half of the draws "he" and "she" change places too.
    """
    names: dict[str, str] = {}
    turn = draw.random() < 0.5

    def person(match: re.Match[str]) -> str:
        first, last = match[1], match[2] or ""
        if first not in names:
            female = (_FIRST[first] is _FEMALE) != turn
            names[first] = draw.choice(_FEMALE if female else _MALE)
        if last and last not in names:
            names[last] = f" {draw.choice(_LAST)}"
        return names[first] + names.get(last, "")

    def pronoun(match: re.Match[str]) -> str:
        space = match["of"] or ""  # "her" and a noun: "his"; else "him"
        word = match[0].removesuffix(space).lower()
        other = ("his" if space else "him") if word == "her" else _SHE.get(word) or _HE[word]
        return (other.capitalize() if match[0][0].isupper() else other) + space

    text = _PERSON.sub(person, text)
    return _PRONOUN.sub(pronoun, text) if turn else text


def mistyped(text: str, share: float, draw: random.Random) -> str:
    """A share of the letters left out, doubled, replaced by another, or exchanged with the one behind."""
    letters = list(text)
    for i, letter in enumerate(letters):
        if letter.isalpha() and draw.random() < share:
            slip = draw.randrange(4)
            if slip == 3 and i + 1 < len(letters):
                letters[i : i + 2] = letters[i + 1], letter
            else:
                letters[i] = ("", letter * 2, draw.choice(_LETTERS), letter)[slip]
    return "".join(letters)
