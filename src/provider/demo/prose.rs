//! Prose: what the stories are made of. Every beat has a few wordings that fit any wording of the others.
//!
//! The names, the dashes, the dots, the café and the ship in chalk are of two to four bytes a character: a client that
//! cuts or joins bytes where it should not is found out by any story.

/// Who travels.
pub(super) const HEROES: [&str; 6] = ["Надя", "美咲", "Юрий", "小林", "Оксана", "健一"];

/// On what.
pub(super) const SHIPS: [&str; 6] =
    ["Théodora", "Bright Relief", "Étoile du Nord", "Margaret Voss", "Señora Quill", "Second Helping"];

/// To where.
pub(super) const PORTS: [&str; 6] = ["Halifax", "Montevideo", "Port Adélie", "Veracruz", "Göteborg", "Baltimore"];

/// With what in the bag.
pub(super) const THINGS: [&str; 6] = [
    "a clock without hands",
    "half of a violin",
    "a jar of seeds",
    "a key to no particular door",
    "a map of a town that had moved",
    "a brass doorbell",
];

/// What happens, in order. A break after it ends a paragraph.
pub(super) const BEATS: [[&str; 3]; 14] = [
    [
        "In the spring that the river ice broke early, {hero} came aboard the {ship} with a steerage ticket to {port}. ",
        "Nobody on the quay waved when the {ship} cast off for {port}, so {hero} waved twice, once for each side. ",
        "{hero} had slept on the mole for two nights so as not to miss the {ship}, which was bound for {port}. ",
    ],
    [
        "Between the boilers and the mail there were a hundred bunks and one window no bigger than a saucer. ",
        "Steerage lay under the second deck, where the air tasted of coal, oranges and other people's soup. ",
        "The stair down to steerage was as steep as a ladder, and its last step was always wet. ",
    ],
    [
        "“You get used to the engine,” said an old woman in the next bunk — “it is the silence that wakes you.” ",
        "A stoker who came by with the lamp had one piece of advice — never lend anybody your spoon. ",
        "A rule was painted on the bulkhead — no singing after nine — and nobody had ever been known to keep it. ",
    ],
    [
        "Wrapped in a shirt lay {thing}, and {hero} looked at it every evening as others look at a calendar. ",
        "The only luggage was {thing}, which the customs man had turned over twice without finding a word for it. ",
        "What mattered was {thing}, carried under a coat that was far too warm for the season. ",
    ],
    [
        "There had once been a café in the family, and it still came up in any sentence that began with “when”.\n\n",
        "An uncle was said to keep a café on the other side, with red chairs and a debt to match.\n\n",
        "All the letters from over there had been written in one café, or at least on its paper.\n\n",
    ],
    [
        "On the third day the wind went round to the north-west, and the sea stood up like a crowd. ",
        "The fog came on the fourth morning, so thick that the whistle seemed to be answering itself. ",
        "For a week there was nothing but weather, and then even the weather stopped. ",
    ],
    [
        "Plates began to creep along the tables, slowly at first… then all together, like a congregation going out. ",
        "Somewhere ahead a bell was ringing… or a kettle, or only the hope of a bell. ",
        "A boy counted the beats of the screw aloud, lost the number… and began again at one without complaint. ",
    ],
    [
        "{hero} climbed past the notice that forbade it, and found the deck empty but for the mate. ",
        "Unable to sleep, {hero} went up for air and came out beside the mate, who was arguing with the compass. ",
        "It was {hero} who smelled the smoke first, and who ran up in stockinged feet to tell the mate. ",
    ],
    [
        "“Can you read a chart?” asked the mate, and {hero}, who could read only music, said yes. ",
        "“Hold this,” said the mate, and handed over the end of a wet rope as if it were the simplest thing. ",
        "The mate said nothing but moved over a little at the rail, which on that ship was as good as a handshake. ",
    ],
    [
        "They stood there until the watch changed, and talked about bread, and about how far down the dark went.\n\n",
        "One star hung low in a gap, and between them they steered by it for the better part of an hour.\n\n",
        "For a while neither spoke; the {ship} did the talking, plank by plank.\n\n",
    ],
    [
        "Below, meanwhile, the children had made a country out of blankets and were issuing passports. ",
        "Below, a tailor was mending sixty coats for nothing, because he could not bear to sit still. ",
        "Below, someone had found an accordion with two dead keys, and the tunes simply stepped around them. ",
    ],
    [
        "On the last night a boy chalked the ship on the bulkhead, funnel and all 🚢, and everyone signed beneath.\n\n",
        "On the last night a paper ship 🚢 went from bunk to bunk until it had been folded by every hand on board.\n\n",
        "On the last night somebody iced a ship on a cake 🚢, and the anchor went to whoever had been most seasick.\n\n",
    ],
    [
        "Then there was land, first as a smell of hay, later as a line, and at last as a policeman. ",
        "{port} came up out of the morning roof by roof, as though it were being remembered. ",
        "The engine stopped in the harbour mouth, and the silence woke everyone at once. ",
    ],
    [
        "“Anything to declare?” they asked; “Only the crossing,” said {hero}, and was let through.",
        "And {thing}? It stands on a shelf in {port} to this day, and whoever asks about it is told all of this.",
        "It was a long way up the gangway, and {hero} took it slowly, like the last page of a letter.",
    ],
];

/// How a steer is taken up; `{words}` are the person's, in quotes.
pub(super) const TAKE_UPS: [&str; 3] = [
    "Now, {words}, as you wish: here is how it goes on. ",
    "{words} — very well, the helm is yours, and the course is changed at once. ",
    "You say {words}, and so it shall be from here. ",
];

/// What is left to say when everything was said before the cut.
pub(super) const CODAS: [&str; 3] = [
    "There was little left to tell by then, and that little is told.",
    "And with that the log of this voyage is closed.",
    "The rest is only ropes and paperwork.",
];
