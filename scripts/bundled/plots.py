"""Sixteen plots: each turns one scene into a problem and its end, six to nine sentences with the same people.

A plot picks freely among ways to say each step, so one plot has thousands of tellings. It knows its scene only;
the opening and the last sentence come from `stories.py`.
"""

from collections.abc import Callable

from bundled import words
from bundled.cast import Scene, with_article


def lost_thing(s: Scene) -> list[str]:
    h, f, p = s.hero, s.friend, s.pick
    toy = f"{p(*words.COLOURS)} {p(*words.TOYS)}"
    first, second, last = s.rng.sample(words.HIDING_PLACES, 3)
    return [
        p(f"{h.name} had a {toy} that {h.he} loved very much.", f"{h.His} favourite thing was a {toy}."),
        p(f"One {s.time}, the {toy} was gone.", f"One {s.time}, {h.he} could not find it anywhere."),
        p(f"{h.He} looked {first} and {second}, but it was not there.",
          f"{h.He} searched {first}. {h.He} searched {second}. It was not there."),
        p(f'"Do not cry," said {f.full}. "I will help you look."',
          f'{f.full} saw that {h.name} was sad and said, "Let us look together."'),
        p(f"They looked and looked until they came to {s.place}.", "So the two friends went out to look."),
        p(f"At last they found the {toy} {last}.", f"And there it was, {last}!",
          f"Then {f.name} gave a shout. The {toy} was {last}."),
        p(f'"Thank you," said {h.name}, and gave {f.name} a big hug.',
          f'"You are a true friend," said {h.name}.',
          f"{h.name} was so happy that {h.he} danced around {f.name}."),
    ]  # fmt: skip


def afraid(s: Scene) -> list[str]:
    h, f, p = s.hero, s.friend, s.pick
    fear, trouble, act = s.rng.choice((
        ("the dark", "was lost in the dark woods", "took a small lamp and walked into the dark"),
        ("deep water", "fell into the pond", "jumped into the water and swam as fast as {he} could"),
        ("thunder", "was alone outside in the storm", "ran out into the storm, even though the thunder was loud"),
        ("high places", "was stuck at the top of a tall tree", "climbed up, one branch at a time"),
        ("the old bridge", "was hurt on the other side of the bridge", "stepped on the bridge and did not look down"),
        ("the cave", "was calling for help inside the cave", "took a deep breath and went into the cave"),
    ))  # fmt: skip
    act = act.format(he=h.he)
    return [
        p(f"{h.name} was afraid of {fear}.", f"There was only one thing wrong: {h.he} was afraid of {fear}."),
        p("The others laughed, but it did not help.", f'"I will never be brave," {h.he} thought.',
          f"{h.His} mother said that it was all right to be afraid."),
        p(f"One {s.time}, {f.full} {trouble}.", f"Then, one {s.time}, {h.his} friend {f.full} {trouble}."),
        p(f'"Help me!" cried {f.name}.', f'"Help! Help!" called {f.name}, but nobody else was near.'),
        p(f"{h.name} was shaking, but {h.he} {act}.", f"{h.name} forgot {h.his} fear. {h.He} {act}."),
        p(f"Soon {f.name} was safe.", f"{h.He} found {f.name} and brought {f.him} safely home."),
        p(f'"You are the bravest {h.kind} I know," said {f.name}.', f'"You saved me!" said {f.name}.'),
        p(f"After that, {h.name} was not afraid of {fear} any more.",
          f'"I was afraid," said {h.name}, "but you needed me."'),
    ]  # fmt: skip


def sharing(s: Scene) -> list[str]:
    h, f, p = s.hero, s.friend, s.pick
    food = p(*words.FOODS)
    return [
        p(f"One {s.time}, {h.name} had a basket full of {food}.",
          f"One {s.time}, {h.name} was carrying {food} home in a basket."),
        p(f"On the way {h.he} met {f.full}, who looked very hungry.",
          f"Near {s.place} sat {f.full}, thin and tired."),
        p(f'"Please, may I have some of your {food}?" asked {f.name}.',
          f'"I have not eaten since yesterday," said {f.name}.'),
        p(f'At first {h.name} wanted to keep them all. Then {h.he} said, "Yes, take half."',
          f'"Of course," said {h.name}. "There is enough for two."',
          f'{h.name} thought about it and said, "Sit down with me. We will share."'),
        p(f"They ate the {food} together in the sun.", f"So they sat down and ate the {food} side by side."),
        p(f"The next winter, {h.name} had no food at all.", f"A few weeks later, {h.name} lost {h.his} own basket."),
        p(f'Then {f.name} came to the door with a big bag. "You shared with me," {f.he} said. "Now I share with you."',
          f'{f.name} heard about it and brought {h.him} a warm supper. "Now it is my turn," {f.he} said.'),
    ]  # fmt: skip


def building(s: Scene) -> list[str]:
    h, f, p = s.hero, s.friend, s.pick
    thing, made_of, failure, success = s.rng.choice((
        ("boat", "some old boards", "it sank", "it floated like a leaf"),
        ("kite", "paper and string", "it fell to the ground", "it flew high above the trees"),
        ("little house", "sticks", "the wind blew it down", "it stood strong in the wind"),
        ("bridge", "long branches", "it broke in the middle", "it carried them both"),
        ("swing", "a rope and a board", "the rope broke", "it went up and down, high into the air"),
        ("raft", "three logs", "the logs drifted apart", "it carried them across the water"),
    ))  # fmt: skip
    return [
        p(f"One {s.time}, {h.name} wanted to build a {thing}.",
          f"{h.name} had a dream: {h.he} wanted to make a {thing}."),
        p(f"{h.He} took {made_of} and worked all day.", f"{h.He} found {made_of} and began at once."),
        p(f"But when {h.he} tried the {thing}, {failure}.", f"But the first time, {failure}."),
        p(f'"I will never do it," said {h.name}, and sat down.', f"{h.name} was sad and wanted to give up."),
        p(f'{f.full} came by and said, "Try again. I will hold the other end."',
          f'"Everyone fails the first time," said {f.full}. "Let us try it together."'),
        p("They worked slowly and with care.", "They tied every knot twice.",
          f"{f.name} held the wood, and {h.name} tied the rope."),
        p(f"This time, {success}.", f"When the {thing} was ready, {success}."),
        p(f'"We did it!" shouted {h.name}.', f'"Two are better than one," said {f.name}, and they both laughed.'),
    ]  # fmt: skip


def storm(s: Scene) -> list[str]:
    h, f, p = s.hero, s.friend, s.pick
    guest = p(*words.TINY_ANIMALS)
    return [
        p("One night, a great storm came.", "One evening, the sky grew black and the rain began to fall.",
          "One winter night, the snow fell thick and fast."),
        p(f"{h.name} sat by the fire, warm and dry.", f"{h.name} shut the door and made a pot of soup."),
        p(f"Knock, knock! It was {f.full}, cold and wet.", f"Then {h.he} heard a knock. At the door stood {f.full}."),
        p(f'"May I come in?" asked {f.name}. "My house is full of water."',
          f'"Please let me in," said {f.name}. "The wind took my roof."'),
        p(f'"Come in, come in," said {h.name}.', f'{h.name} opened the door wide. "Sit by the fire," {h.he} said.'),
        p(f"Next came {with_article(guest)}, and {h.he} let it in too.",
          f"Soon {with_article(guest)} knocked, and there was room for one more."),
        p("The house was small, and they all sat close together.", "It was a little crowded, but it was warm."),
        p("They ate soup and told stories until the storm was over.", "They sang songs until the morning came."),
    ]  # fmt: skip


def lost_way(s: Scene) -> list[str]:
    h, f, p = s.hero, s.friend, s.pick
    lure = p("a blue butterfly", "a shining beetle", "a yellow leaf in the wind", "a little red bird",
             "a trail of berries",
             "a white feather")  # fmt: skip
    guide = p("the river", "the stars", "the smell of bread", "the sound of the bell", "the old stone path")
    return [
        p(f"One {s.time}, {h.name} followed {lure}.", f"One {s.time}, {h.he} saw {lure} and ran after it."),
        p(f"{h.He} went farther and farther from {s.place}.", f"{h.He} did not look where {h.he} was going."),
        p(f"When {h.he} stopped, {h.he} did not know the way home.", "Soon nothing looked the same, and it grew dark."),
        p(f"{h.name} sat down and began to cry.", f'"I want to go home," {h.he} said in a small voice.'),
        p(f'"Why are you crying?" asked a voice. It was {f.full}.', f"{f.full} heard {h.him} and came near."),
        p(f'"I am lost," said {h.name}.', f'"I cannot find my home," said {h.name}.'),
        p(f'"Follow {guide}," said {f.name}. "It will lead you home. I will walk with you."',
          f'"Do not be afraid," said {f.name}. "We only have to follow {guide}."'),
        p(f"They walked for a long time, and at last {h.name} saw the light in {h.his} window.",
          f"And before long, {h.his} mother was holding {h.him} in her arms."),
    ]  # fmt: skip


def quarrel(s: Scene) -> list[str]:
    h, f, p = s.hero, s.friend, s.pick
    toy = f"{p(*words.COLOURS)} {p('kite', 'drum', 'scarf', 'blanket', 'basket', 'hat')}"
    return [
        p(f"One {s.time}, {h.name} and {f.full} found a {toy} near {s.place}.",
          f"{h.name} and {f.full} saw a {toy} on the ground at the same time."),
        p(f'"It is mine!" said {h.name}. "No, it is mine!" said {f.name}.',
          f'"I saw it first!" cried {f.name}. "No, I did!" cried {h.name}.'),
        p(f"{h.name} pulled on one side, and {f.name} pulled on the other.", "They pulled and pulled."),
        p(f"Then the {toy} tore in two.", f"There was a loud crack, and the {toy} broke."),
        p("They were both quiet for a while.", "Now nobody had it, and both were sad."),
        p(f'"I am sorry," said {h.name}. "I was not kind."', f'"I am sorry," said {f.name}. "You matter more to me."'),
        p(f"They took a needle and some string and mended the {toy} together.",
          f"Together they carried the {toy} home and mended it."),
        p(f"After that, {h.name} had it one day, and {f.name} had it the next.",
          "From then on they shared it, and it was much more fun."),
    ]  # fmt: skip


def present(s: Scene) -> list[str]:
    h, f, p = s.hero, s.friend, s.pick
    gift, parts = s.rng.choice((
        ("a necklace", "shells from the beach"), ("a crown", "yellow flowers"), ("a soft pillow", "feathers"),
        ("a picture", "coloured leaves"), ("a flute", "a piece of wood"), ("a warm scarf", "grey wool"),
        ("a little lamp", "an old jar"), ("a cake", "flour and honey"),
    ))  # fmt: skip
    return [
        p(f"It was almost the birthday of {f.full}.", f"Tomorrow was the birthday of {h.his} best friend, {f.full}."),
        p(f"{h.name} wanted to give {f.him} a present, but {h.he} had no money.",
          f'"I have nothing to give," thought {h.name}.'),
        p(f"{h.He} thought about it all night.", f"{h.He} walked up and down near {s.place} and thought hard."),
        p(f"Then {h.he} had an idea. {h.He} would make {gift} from {parts}.",
          f"In the morning, {h.he} took {parts} and began to make {gift}."),
        p("It took all day, and it was not perfect.", f"{h.He} worked until {h.his} eyes were tired."),
        p(f'"It is very small," said {h.name}, and looked at the ground.',
          f'"I made it myself," said {h.name} softly.'),
        p(f'"It is the best present of all," said {f.name}, "because you made it for me."',
          f"{f.name} smiled. {f.He} had never had such a fine present."),
    ]  # fmt: skip


def fib(s: Scene) -> list[str]:
    h, f, p = s.hero, s.friend, s.pick
    danger = p("a bear", "a wolf", "a dragon", "a big snake", "a fire")
    return [
        p(f"{h.name} liked to play tricks.", f"{h.name} thought that it was funny to fool the others."),
        p(f'One {s.time}, {h.he} shouted, "Help! There is {danger}!"', f'"Help, {danger}!" {h.he} cried one {s.time}.'),
        p(f"{f.full} came running, but there was nothing.", f"{f.full} ran all the way, but it was not true."),
        p(f"{h.name} laughed and laughed.", f'"I fooled you!" said {h.name}.'),
        p(f"The next day, {danger} really came.", f"But the day after that, there really was {danger} near {s.place}."),
        p(f'"Help!" cried {h.name}, but this time nobody came.',
          f'{h.name} called for help, but {f.name} said, "It is only another trick."'),
        p(f"{h.name} ran home as fast as {h.he} could, and was safe only just in time.",
          f"{h.name} had to hide in a hollow tree all night."),
        p(f'"I am sorry," {h.he} told {f.name}. "I will always tell the truth now."',
          f"After that, {h.name} told the truth, and {f.name} believed {h.him} again."),
    ]  # fmt: skip


def race(s: Scene) -> list[str]:
    h, f, p = s.hero, s.friend, s.pick
    goal = p("the old mill", "the big oak", "the river", "the top of the hill", "the red barn", "the wooden gate")
    return [
        p(f"{f.full} was proud and said, \"Nobody is as fast as I am.\"",
          f"{f.full} was fast, and liked to talk about it."),
        p(f'"Let us race to {goal}," said {h.name} one {s.time}.',
          f"One {s.time}, {h.name} asked {f.him} to race to {goal}."),
        p("Everyone laughed.", f'"You? You are much too slow," said {f.name}.'),
        p(f"They started, and soon {f.name} was far ahead.", f"One, two, three, go! {f.name} was gone in a moment."),
        p(f'"I have time," thought {f.name}, and lay down to sleep in the grass.',
          f"But {f.name} stopped to eat berries and to look at the clouds."),
        p(f"{h.name} did not stop. {h.He} went on, step by step.",
          f"{h.name} walked on and on, and never looked back."),
        p(f"When {f.name} woke up and ran, it was too late. {h.name} was already at {goal}.",
          f"When {f.name} came to {goal}, {h.name} was sitting there with a smile."),
        p(f'"Slow and steady is fast enough," said {h.name}.',
          f'"You have won," said {f.name}. "I will not boast again."'),
    ]  # fmt: skip


def small_helper(s: Scene) -> list[str]:
    h, p = s.hero, s.pick
    tiny = p(*words.TINY_ANIMALS)
    trap = p("in a spider's web", "in a puddle", "under a stone", "in a thorn bush", "in a glass jar")
    trouble, rescue = s.rng.choice((
        ("was caught in a net", "called all its friends, and together they cut the net"),
        ("was lost in the fog", "flew and crawled ahead and showed the way home"),
        ("could not sleep because of a sad heart", "came to the window and sang a soft song"),
        ("dropped the key of the house into a crack", "went into the crack and brought the key back"),
        ("was asleep when the hunter came near", "woke everyone just in time"),
    ))  # fmt: skip
    return [
        p(f"One {s.time}, {h.he} saw {with_article(tiny)} caught {trap}.",
          f"One {s.time}, {h.he} heard a tiny cry. {with_article(tiny).capitalize()} was stuck {trap}."),
        p(f'"Please help me," said the {tiny}. "One day I will help you too."',
          f'"Please let me go," said the {tiny}. "I will not forget it."'),
        p(f'{h.name} laughed. "How could you help me?" But {h.he} was kind and set it free.',
          f"{h.name} was careful, and soon the {tiny} was free.",
          f"Very gently, {h.name} set the {tiny} free."),
        p("Many days went by.", "The summer went by.", "A week later, something bad happened."),
        p(f"{h.name} {trouble}.", f"Then {h.name} {trouble}, and nobody was there to help."),
        p(f"But the {tiny} had not forgotten. It {rescue}.", f"The {tiny} heard of it. It {rescue}."),
        p(f'"You are small," said {h.name}, "but you are a great friend."',
          "No one is too small to help a friend.", f'"Thank you, little one," said {h.name}.'),
    ]  # fmt: skip


def seed(s: Scene) -> list[str]:
    h, f, p = s.hero, s.friend, s.pick
    plant = p(*words.SEEDS)
    return [
        p(f"One {s.time}, {h.name} found a small seed near {s.place}.", f"{f.full} gave {h.name} a tiny seed."),
        p(f"{h.He} put it in the ground and gave it water.", f"{h.He} dug a hole, put the seed in, and waited."),
        p("The next day, nothing had happened.", "Day after day there was only brown earth."),
        p(f'"It will never grow," said {h.name}.', f'"Is it broken?" {h.he} asked.'),
        p(f'"Wait a little," said {f.name}. "Good things are slow."',
          f'{f.full} said, "Give it water and sun and time."'),
        p(f"So {h.name} gave it water every morning.", f"{h.name} waited, and sang to the seed every evening."),
        p("Then, after the rain, there was a small green leaf.", "And one morning, something green looked out."),
        p(f"It grew and grew until it was a fine {plant}, and {h.name} showed it to everyone.",
          f"By the end of the summer, it was the most beautiful {plant} in the land."),
    ]  # fmt: skip


def practice(s: Scene) -> list[str]:
    h, f, p = s.hero, s.friend, s.pick
    skill, failure, success = s.rng.choice((
        ("swim", "went under and came up with a wet nose", "swam all the way across the pond"),
        ("sing", "only made a squeak", "sang so sweetly that the birds came to listen"),
        ("whistle", "only blew air", "whistled a happy song"),
        ("dance", "fell over {his} own feet", "danced in a circle without falling"),
        ("bake bread", "burned it black", "baked a loaf that was soft and golden"),
        ("skate on the ice", "slipped and fell down", "went over the ice like the wind"),
        ("read", "could not tell one letter from another", "read a whole page out loud"),
        ("paint", "made only a grey spot", "painted a picture of the sea"),
    ))  # fmt: skip
    failure = failure.format(his=h.his)
    return [
        p(f"{h.name} wanted to learn to {skill}.", f"More than anything, {h.name} wanted to {skill}."),
        p(f"One {s.time}, {h.he} tried, but {h.he} {failure}.", f"The first time {h.he} tried, {h.he} {failure}."),
        p("Some of the others laughed.", f'"I am not good at anything," said {h.name}.'),
        p(f'"I could not do it at first either," said {f.full}. "Come, I will show you."',
          f"{f.full} was old and wise and knew how to {skill}. \"Try a little every day,\" {f.he} said."),
        p(f"So they met every day near {s.place}.", f"Every day {h.name} tried again, a little better each time."),
        p("It was hard, but it was fun too.", f"Sometimes {h.he} wanted to stop, but {h.he} did not."),
        p(f"At last, {h.name} {success}.", f"And one fine day, {h.name} {success}."),
        p(f'"I knew that you could do it," said {f.name}.', f"Everyone clapped, and {f.name} clapped the loudest."),
    ]  # fmt: skip


def night_noise(s: Scene) -> list[str]:
    h, f, p = s.hero, s.friend, s.pick
    sound, truth = s.rng.choice((
        ("Tap, tap, tap", "a branch that knocked on the window in the wind"),
        ("Whoo, whoo", "an owl that sang to the moon"),
        ("Scratch, scratch", "a lost kitten that wanted to come in"),
        ("Drip, drip, drip", "water that fell from the roof into a bucket"),
        ("Bump, bump", "an apple tree that dropped its apples one by one"),
        ("Squeak, squeak", "the old gate that moved in the wind"),
    ))  # fmt: skip
    return [
        p(f"One night, {h.name} could not sleep.", f"Late one night, {h.name} woke up."),
        p(f'"{sound}," went something outside.', f'There was a sound in the dark. "{sound}!"'),
        p(f'"It must be a monster," thought {h.name}, and hid under the blanket.',
          f"{h.name} was sure that it was a monster with big teeth."),
        p(f"{h.He} called {f.full}, who was staying for the night.", f"{h.He} woke {h.his} friend {f.full}."),
        p(f'"Let us go and look," said {f.name}. "I will hold your hand."',
          f'"I hear it too," said {f.name}. "We will look together."'),
        p("They took a candle and opened the door very slowly.", "On the tips of their toes they went outside."),
        p(f"It was only {truth}.", f"And what did they find? It was {truth}!"),
        p("They laughed so hard that the whole house woke up.", f'"What a silly monster," said {h.name}.'),
    ]  # fmt: skip


def wish(s: Scene) -> list[str]:
    h, f, p = s.hero, s.friend, s.pick
    magic = p("a shining stone", "a little silver bell", "an old golden key", "a magic feather", "a tiny lamp")
    need, result = s.rng.choice((
        ("was very ill", "could stand up and run again"),
        ("had lost {his} home in the flood", "had a new house with a round door"),
        ("was always alone", "had friends who came every day"),
        ("could not see well", "could see every star in the sky"),
        ("was sad because the garden was dry", "saw the rain fall and the flowers open"),
    ))  # fmt: skip
    need = need.format(his=f.his)
    return [
        p(f"One {s.time}, {h.name} found {magic} near {s.place}.",
          f"One {s.time}, something shone in the grass. It was {magic}."),
        p('"I can give you one wish," said a soft voice.', '"One wish," it said, "and only one."'),
        p(f"{h.name} thought of gold. {h.He} thought of cakes.", f"{h.name} thought for a long time."),
        p(f"Then {h.he} remembered {f.full}, who {need}.", f"But {h.his} friend {f.full} {need}."),
        p(f'"I wish that {f.name} may be happy," {h.he} said.', f'"My wish is for {f.name}," said {h.name}.'),
        p(f"There was a flash of light, and {f.name} {result}.", f"The next morning, {f.name} {result}."),
        p(f'"Why did you not wish for gold?" asked {f.name}. "Because you are my friend," said {h.name}.',
          f"{h.name} had no gold, but {h.he} was the happiest {h.kind} of all."),
    ]  # fmt: skip


def moving_in(s: Scene) -> list[str]:
    h, f, p = s.hero, s.friend, s.pick
    game = p("hide and seek", "catch", "with a ball", "pirates", "with the wooden blocks", "in the leaves")
    return [
        p(f"{h.name} had no one to play with.", f"Every day {h.name} played alone near {s.place}."),
        p(f"One {s.time}, {with_article(f.kind)} named {f.name} came to live next door.",
          f"Then {with_article(f.kind)} named {f.name} moved into the empty house."),
        p(f"{h.name} wanted to say hello, but {h.he} was too shy.", f"{h.name} hid behind a tree and watched."),
        p(f"{f.name} was sitting on the steps and looked lonely too.",
          f"{f.name} did not know anyone, and {f.he} was sad."),
        p(f'At last {h.name} took a deep breath and said, "Hello. My name is {h.name}."',
          f'"Would you like to play?" {h.name} asked at last.'),
        p(f'{f.name} smiled. "I was hoping that you would ask," {f.he} said.',
          f'"Yes, please!" said {f.name} at once.'),
        p(f"They played {game} until the sun went down.", f"All afternoon they played {game}."),
        p('"See you tomorrow!" they both said.', f"Now {h.name} was not alone any more."),
    ]  # fmt: skip


PLOTS: tuple[Callable[[Scene], list[str]], ...] = (
    lost_thing, afraid, sharing, building, storm, lost_way, quarrel, present, fib, race, small_helper, seed, practice,
    night_noise, wish, moving_in,
)  # fmt: skip
