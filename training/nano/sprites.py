"""Sprites with names: Fluent emoji pictures (MIT) named by their Unicode character."""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Food and plants, animals, vehicles, and households: things a photograph may show.
_RANGES = (
    (0x1F32D, 0x1F385), (0x1F3AA, 0x1F3AE), (0x1F3B3, 0x1F3BC), (0x1F3BE, 0x1F3BF), (0x1F3C0, 0x1F3C0), (0x1F3C6, 0x1F3D3), (0x1F400, 0x1F43E),
    (0x1F451, 0x1F462), (0x1F488, 0x1F490), (0x1F4A1, 0x1F4A3), (0x1F4BA, 0x1F4BC), (0x1F4F7, 0x1F4FB), (0x1F525, 0x1F52E), (0x1F680, 0x1F6B2),
    (0x1F6BD, 0x1F6C1), (0x1F6CB, 0x1F6FC), (0x1F940, 0x1F945), (0x1F94A, 0x1F9CB), (0x1F9E0, 0x1F9FA), (0x1FA70, 0x1FADF), (0x26BD, 0x26C4), (0x2600, 0x2604),
)  # fmt: skip
_SKIPPED_WORDS = frozenset(
    "sign symbol face hand hands person man woman men women boy girl baby fist finger index heart arrow circle square "
    "button family kiss couple people clock bust mark eyes gesture ok input family diamond latin no silhouette prohibited "
    "wrestlers speaking ear foot leg nose tongue mouth lips cheering runner dancer worker mage fairy vampire merperson elf "
    "genie zombie superhero supervillain troll haircut massage pregnant breast santa mother princess prince bride adult older "
    "child detective police guardsman construction surfer swimmer rower bicyclist cyclist golfer lifter cartwheel juggling "
    "handball polo climbing bath sleeping nail palm hands biceps muscle selfie crossed victory writing pointing folded thumbs "
    "clapping waving open raised left right up down top back end soon on trident warning radioactive biohazard potable "
    "variation selector modifier emoji component dancers playing wearing levitating pedestrian "
    "black white cross facing negative squared squat ideograph religion mosque synagogue kaaba star david wheel dharma yin yang "
    "orthodox menorah place atom om aries taurus gemini cancer leo virgo libra scorpius sagittarius capricorn aquarius "
    "pisces ophiuchus female male transgender infinity peace recycling wireless vibration mobile antenna bars cinema dim "
    "high brightness shuffled repeat twisted rightwards radio-button abc numbers letters information".split()
)
_KEPT_FACES = re.compile(r"^(dog|cat|mouse|cow|tiger|rabbit|horse|monkey|pig|frog|hamster|wolf|bear|panda|lion|unicorn|fox|zebra|giraffe|dragon|moose|new moon|sun) face$|^(zebra|giraffe|bear|panda|fox|frog|hamster|wolf|lion|unicorn|horse|moose) face$")
_SKIPPED_NAMES = frozenset(
    {"moyai", "footprints", "tokyo tower", "bus stop", "children crossing", "no smoking", "construction sign", "hindu temple", "elevator", "level slider"}
    | {"shopping trolley", "small airplane", "airplane arriving", "airplane departure", "mountain cableway", "suspension railway", "aerial tramway"}
    | {"mountain railway", "railway car", "light rail", "metro", "station", "tram car", "trolleybus", "minibus", "gear", "label", "oil drum", "motorway"}
    | {"railway track", "pouring liquid", "pouch", "fencer", "goal net", "petri dish", "x ray", "mechanical arm", "probing cane", "hole", "horse racing"}
    | {"musical note", "musical score", "biting lip", "bubbles", "nazar amulet", "knot", "mirror", "window", "hook", "lungs", "house buildings", "studio microphone"}
    | {"performing arts", "bowling", "video game", "direct hit", "slot machine", "cooking", "mousetrap", "mouse trap", "water closet", "shower", "bathtub"}
    | {"jack o lantern", "father christmas", "pine decoration", "tanabata tree", "circus tent", "party popper", "skier", "military helmet", "placard"}
    | {"motor boat", "speedboat", "passenger ship", "ferry", "comet", "cloud", "womans clothes", "long drum", "sponge", "adhesive bandage", "empty nest"}
    | {"lab coat", "safety vest", "bow and arrow", "goggles", "sari", "flat shoe", "womans boots", "womans sandal", "thong sandal", "mans shoe", "microbe"}
    | {"diya lamp", "worm", "chess pawn", "amphora", "hocho", "beverage box", "takeout box", "canned food", "oden", "dango", "custard", "bento box"}
    | {"rice cracker", "rice ball", "cooked rice", "steaming bowl", "fried shrimp", "fish cake", "stuffed flatbread", "shaved ice", "leafy green", "herb"}
    | {"mate drink", "tropical drink", "cocktail glass", "tumbler glass", "clinking glasses", "beer mugs", "postal horn", "seat", "speaker", "pager"}
)

_RENAMED = {
    "automobile": "car", "recreational vehicle": "camper", "delivery truck": "truck", "articulated lorry": "truck",
    "hot beverage": "cup", "teacup without handle": "cup", "television": "tv", "personal computer": "laptop",
    "slice of pizza": "pizza", "shortcake": "cake", "birthday cake": "cake", "doughnut": "donut",
    "bactrian camel": "camel", "dromedary camel": "camel", "spouting whale": "whale", "whale": "whale",
    "honeybee": "bee", "lady beetle": "ladybug", "oncoming automobile": "car", "oncoming bus": "bus",
    "oncoming taxi": "taxi", "oncoming police car": "police car", "steam locomotive": "train", "tangerine": "orange",
    "horizontal traffic light": "traffic light", "vertical traffic light": "traffic light", "aubergine": "eggplant",
    "couch and lamp": "couch", "ewe": "sheep", "ram": "sheep", "baby chick": "chick", "front-facing baby chick": "chick",
    "hatching chick": "chick", "snowboarder": "snowboard", "open book": "book", "closed book": "book",
    "tennis racquet and ball": "tennis racket", "baseball": "baseball", "green book": "book", "blue book": "book",
    "orange book": "book", "cut of meat": "steak", "chocolate bar": "chocolate", "ship": "ship", "motor scooter": "scooter",
    "racing motorcycle": "motorcycle", "racing car": "race car", "sport utility vehicle": "car", "pot of food": "stew",
    "guide dog": "dog", "water buffalo": "buffalo", "monkey": "monkey", "wine glass": "wine glass", "cheese wedge": "cheese",
    "black cat": "cat", "school satchel": "backpack", "mushroom": "mushroom", "potted plant": "potted plant",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sprite:
    """One picture and its name.

    Attributes:
        noun: Lower-case name, for example "red apple".
        file: Where the picture is.
    """

    noun: str
    file: Path

    def load(self) -> NDArray[np.uint8]:
        """Return the picture, uint8 RGBA [height, width, 4], cropped to what is visible."""
        picture = Image.open(self.file).convert("RGBA")
        visible = picture.getchannel("A").point(lambda alpha: 255 if alpha > 40 else 0).getbbox()
        return np.asarray(picture.crop(visible))


def noun_of(code_point: int) -> str | None:
    """Return the name of an object's emoji, or None for people, gestures, signs and symbols."""
    if not any(low <= code_point <= high for low, high in _RANGES):
        return None
    name = unicodedata.name(chr(code_point), "").lower()
    if not name:
        return None
    if _KEPT_FACES.match(name):
        return name.removesuffix(" face")
    if name in _RENAMED:
        return _RENAMED[name]
    words = re.split(r"[ -]", name)
    if name in _SKIPPED_NAMES or len(words) > 2 or any(word in _SKIPPED_WORDS for word in words):
        return None
    return name.replace("-", " ")


def load_sprites(folder: Path) -> tuple[Sprite, ...]:
    """Return all usable sprites of a folder of files named by hexadecimal code points, in a fixed order.

    Raises:
        FileNotFoundError: when the folder holds no sprite.
    """
    sprites = []
    for file in sorted(folder.glob("*.webp")):
        points = [point for point in file.stem.split("-") if point != "fe0f"]
        noun = noun_of(int(points[0], 16)) if len(points) == 1 else None
        if noun is not None:
            sprites.append(Sprite(noun, file))
    if not sprites:
        raise FileNotFoundError(f"no sprites in {folder}: expected files such as 1f436.webp")
    return tuple(sprites)
