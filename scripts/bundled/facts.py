"""The few things the bundled model is taught to answer: opposites, sounds, colours, days and so on.

Lists only; `chats.py` makes questions and answers of them.
"""

OPPOSITES = (
    ("hot", "cold"), ("big", "small"), ("up", "down"), ("day", "night"), ("happy", "sad"), ("fast", "slow"),
    ("old", "young"), ("open", "closed"), ("light", "dark"), ("high", "low"), ("long", "short"), ("wet", "dry"),
    ("hard", "soft"), ("full", "empty"), ("early", "late"), ("near", "far"), ("good", "bad"), ("left", "right"),
    ("strong", "weak"), ("loud", "quiet"), ("rich", "poor"), ("clean", "dirty"), ("black", "white"),
    ("summer", "winter"), ("yes", "no"), ("in", "out"), ("first", "last"), ("sweet", "sour"), ("brave", "afraid"),
    ("thick", "thin"), ("true", "false"), ("friend", "enemy"), ("push", "pull"), ("asleep", "awake"),
)  # fmt: skip
SOUNDS = (
    ("dog", "woof"), ("cat", "meow"), ("cow", "moo"), ("sheep", "baa"), ("duck", "quack"), ("pig", "oink"),
    ("horse", "neigh"), ("frog", "croak"), ("owl", "hoo"), ("bee", "buzz"), ("mouse", "squeak"), ("lion", "roar"),
    ("snake", "hiss"), ("rooster", "cock-a-doodle-doo"), ("hen", "cluck"), ("crow", "caw"), ("donkey", "hee-haw"),
    ("wolf", "howl"), ("turkey", "gobble"), ("goose", "honk"),
)  # fmt: skip
COLOURS = (
    ("grass", "green"), ("the sky", "blue"), ("snow", "white"), ("the sun", "yellow"), ("a strawberry", "red"),
    ("a banana", "yellow"), ("coal", "black"), ("a carrot", "orange"), ("milk", "white"), ("a fox", "red"),
    ("a lemon", "yellow"), ("a tree trunk", "brown"), ("the sea", "blue"), ("a leaf", "green"), ("blood", "red"),
    ("a frog", "green"), ("chocolate", "brown"), ("a cloud", "white"), ("a crow", "black"), ("an orange", "orange"),
    ("a plum", "purple"), ("a tomato", "red"), ("gold", "yellow"), ("a pig", "pink"), ("an elephant", "grey"),
)  # fmt: skip
BABIES = (
    ("dog", "puppy"), ("cat", "kitten"), ("cow", "calf"), ("sheep", "lamb"), ("duck", "duckling"), ("hen", "chick"),
    ("horse", "foal"), ("pig", "piglet"), ("goat", "kid"), ("bear", "cub"), ("lion", "cub"), ("deer", "fawn"),
    ("goose", "gosling"), ("owl", "owlet"), ("frog", "tadpole"),
)  # fmt: skip
HOMES = (
    ("bee", "in a hive"), ("bird", "in a nest"), ("fish", "in the water"), ("rabbit", "in a burrow"),
    ("fox", "in a den"), ("spider", "in a web"), ("horse", "in a stable"), ("dog", "in a kennel"),
    ("cow", "in a barn"), ("bear", "in a cave"), ("mole", "under the ground"), ("squirrel", "in a tree"),
    ("frog", "near a pond"), ("lion", "on the wide grassland"), ("whale", "in the sea"),
)  # fmt: skip
LEGS = (
    ("dog", "four"), ("cat", "four"), ("bird", "two"), ("spider", "eight"), ("ant", "six"), ("horse", "four"),
    ("bee", "six"), ("snake", "no"), ("person", "two"), ("frog", "four"), ("fish", "no"), ("duck", "two"),
    ("cow", "four"), ("beetle", "six"), ("mouse", "four"),
)  # fmt: skip
SIZES = ("ant", "mouse", "squirrel", "rabbit", "fox", "sheep", "horse", "elephant", "whale")  # from small to big
CAN = (
    ("fish", "swim", True), ("birds", "fly", True), ("pigs", "fly", False), ("dogs", "run", True),
    ("stones", "talk", False), ("frogs", "jump", True), ("cows", "fly", False), ("ducks", "swim", True),
    ("trees", "walk", False), ("cats", "climb trees", True), ("fish", "walk", False), ("bees", "make honey", True),
    ("chairs", "sing", False), ("horses", "run", True), ("hens", "lay eggs", True), ("snails", "run fast", False),
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
SEASONS = ("spring", "summer", "autumn", "winter")
NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
RHYMES = (
    ("cat", "hat"), ("mouse", "house"), ("bee", "tree"), ("fox", "box"), ("moon", "spoon"), ("star", "far"),
    ("bear", "pear"), ("sun", "fun"), ("night", "light"), ("king", "ring"), ("rain", "train"), ("frog", "log"),
    ("cake", "lake"), ("goat", "boat"), ("day", "play"), ("sheep", "sleep"),
)  # fmt: skip
JOKES = (
    ("Why did the chicken cross the road?", "To get to the other side!"),
    ("What do you call a bear with no teeth?", "A gummy bear!"),
    ("Why do bees have sticky hair?", "Because they use honeycombs!"),
    ("What has hands but cannot clap?", "A clock!"),
    ("What gets wetter the more it dries?", "A towel!"),
    ("Why did the cookie cry?", "Because its mother was a wafer so long!"),
    ("What do you call a sleeping bull?", "A bulldozer!"),
    ("Why was six afraid of seven?", "Because seven ate nine!"),
)
UNKNOWN_QUESTIONS = (
    "What is the capital of {country}?", "Where is {country}?", "How many people live in {country}?",
    "Who is the king of {country}?", "What language do they speak in {country}?", "Tell me about {country}.",
    "What is the history of {country}?", "Write a program in {language}.", "How do I sort a list in {language}?",
    "Write a function in {language} that adds two numbers.", "Can you debug my {language} code?",
    "Explain {topic}.", "What is {topic}?", "How does {topic} work?", "Tell me about {topic}.",
    "Who invented {topic}?", "Write an essay about {topic}.", "Who was {person}?", "When was {person} born?",
    "What did {person} do?", "What is the weather today?", "Will it rain tomorrow?", "What time is it?",
    "What day is it today?", "What is {large} times {larger}?", "What is {large} + {larger}?",
    "How far is it to the moon?", "Who won the football game?", "What is in the news today?",
    "Translate this into {tongue}.", "How do you say hello in {tongue}?", "What is the meaning of life?",
    "What is the best phone to buy?", "How much does a car cost?", "What should I cook tonight?",
    "Can you book a flight for me?", "Why is the sky blue?", "How old is the Earth?", "Summarise this text for me.",
    "What is the square root of {large}?", "Give me medical advice.", "How do I get rich?",
    "Write an email to my boss.", "What is your opinion on {topic}?",
)  # fmt: skip
UNKNOWN_WORDS = {
    "country": ("France", "Germany", "Japan", "China", "Brazil", "Egypt", "Canada", "India", "Spain", "Peru", "Kenya",
                "Norway", "Italy", "Poland", "Chile", "Turkey", "Vietnam", "Australia", "the United States"),
    "language": ("Python", "C", "Java", "Rust", "JavaScript", "Go", "SQL", "C++"),
    "topic": ("quantum physics", "electricity", "the internet", "a black hole", "gravity", "a computer", "chemistry",
              "the stock market", "philosophy", "machine learning", "a transformer", "music theory", "evolution",
              "a neural network", "an engine", "the economy", "mathematics", "photosynthesis", "democracy"),
    "person": ("Napoleon", "Einstein", "Shakespeare", "Mozart", "Cleopatra", "Newton", "Darwin", "Lincoln", "Plato",
               "Marie Curie", "Columbus", "Beethoven", "Caesar", "Galileo"),
    "tongue": ("French", "German", "Spanish", "Chinese", "Japanese", "Latin", "Russian", "Italian"),
}  # fmt: skip
