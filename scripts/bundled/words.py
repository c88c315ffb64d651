"""The words of the story grammar: names, animals, places, things.

Only lists are here; `plots.py` and `stories.py` turn them into sentences. Changing a list changes the training
data, and so the bundled model: train again afterwards.
"""

GIRL_NAMES = (
    "Lily", "Anna", "Rose", "Mia", "Clara", "Nora", "Daisy", "Ivy", "Ella", "Ruby", "Hazel", "Molly", "Emma", "Lucy",
    "Sara", "Fern", "Pearl", "Willa", "June", "Tessa", "Mabel", "Dora", "Wren", "Olive",
)  # fmt: skip
BOY_NAMES = (
    "Tom", "Ben", "Max", "Sam", "Leo", "Jack", "Finn", "Oscar", "Pip", "Toby", "Hugo", "Ned", "Will", "Theo", "Peter",
    "Otto", "Felix", "Milo", "Bram", "Henry", "Jasper", "Rufus", "Barney", "Dan",
)  # fmt: skip
ANIMALS = (
    "fox", "rabbit", "mouse", "bear", "squirrel", "hedgehog", "badger", "otter", "mole", "deer", "cat", "dog", "duck",
    "goat", "pig", "lamb", "pony", "frog", "turtle", "beaver", "hen", "goose", "kitten", "puppy", "owl", "wolf",
    "lion", "elephant", "monkey", "donkey", "cow", "robin",
)  # fmt: skip
TINY_ANIMALS = (
    "ant", "bee", "ladybird", "butterfly", "snail", "beetle", "little mouse", "little bird", "cricket", "moth",
)  # fmt: skip
ADJECTIVES = (
    "little", "small", "young", "kind", "curious", "shy", "brave", "clever", "quiet", "cheerful", "gentle", "busy",
    "merry", "friendly", "dreamy", "playful",
)  # fmt: skip
PLACES = (  # where the hero lives, and the same place named again
    ("at the edge of a green forest", "the forest"),
    ("in a small house by a river", "the river"),
    ("on a farm near the hills", "the farm"),
    ("in a little village by the sea", "the beach"),
    ("under an old oak tree", "the old oak"),
    ("in a cosy cottage on a hill", "the hill"),
    ("near a wide blue lake", "the lake"),
    ("beside a sunny meadow", "the meadow"),
    ("in a quiet valley", "the valley"),
    ("next to an old mill", "the mill"),
    ("in a big garden full of flowers", "the garden"),
    ("in the deep woods", "the woods"),
    ("on a small island", "the shore"),
    ("behind a tall stone wall", "the wall"),
)
TIMES = (
    "morning", "sunny morning", "cold morning", "warm afternoon", "windy day", "bright spring day", "summer day",
    "autumn day", "winter day", "rainy afternoon", "quiet evening",
)  # fmt: skip
COLOURS = ("red", "blue", "green", "yellow", "white", "golden", "silver", "purple", "brown", "pink")
TOYS = ("ball", "kite", "hat", "scarf", "drum", "bell", "cup", "wooden boat", "blanket", "ribbon", "basket", "whistle")
HIDING_PLACES = (
    "under the bed", "behind the door", "in the tall grass", "behind the big rock", "under the bridge",
    "in the hollow log", "by the well", "in the barn", "under the bushes", "beside the gate", "in the kitchen",
    "between the roots of a tree",
)  # fmt: skip
FOODS = (
    "apples", "berries", "cherries", "nuts", "carrots", "plums", "pears", "honey cakes", "warm bread", "pancakes",
    "cookies", "strawberries",
)  # fmt: skip
SEEDS = ("sunflower", "pumpkin", "rose bush", "apple tree", "bean plant", "cherry tree", "tulip", "strawberry plant")
FRIENDLY_ENDS = (
    "That night, {name} slept very well.",
    "{name} smiled all the way home.",
    "It was the best day of the year.",
    "And they were friends for ever after.",
    "From that day on, they did everything together.",
    "And they all lived happily ever after.",
    "{name} never forgot that day.",
    "The sun went down, and everyone was happy.",
    "Then they went home, tired and happy.",
    "And that was a very good day.",
)
