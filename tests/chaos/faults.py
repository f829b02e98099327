# SPDX-License-Identifier: Apache-2.0
"""What is done to the site, and when: drawn from the seed before it begins.

A schedule is a list of faults, each a dictionary that can be written down and read again:
{"at": seconds, "for": seconds, "kind": one of KINDS, ...}. begin() makes one, end() undoes it.
They may overlap. To add a kind: a row in KINDS, and its two functions.
"""
import os
import random

from bed import SICKDISK

# How long and how many: generous, since the machine may be busy; the faults are what counts.
ROUND_S = (12.0, 28.0)
APART_S = (0.4, 6.0)
LASTS_S = (0.3, 8.0)


def some(chance, names, least=1, most=None):
    most = len(names) - 1 if most is None else most
    return sorted(chance.sample(names, chance.randint(least, max(least, most))))


def one(chance, names):
    return {"who": [chance.choice(names)]}


def minority(chance, names):
    return {"who": some(chance, names, 1, max(1, (len(names) - 1) // 2))}


def everybody(chance, names):
    return {"who": list(names), "for": chance.choice((0, 0, 0, 0.2, 1.5))}


def any_of_them(chance, names):
    return {"who": some(chance, names, 1, len(names))}


# ---- cuts: each gives the directed pairs that are lost ----

def draw_cut(chance, names):
    half = some(chance, names)
    rest = [n for n in names if n not in half]
    way = chance.choice(("both", "both", "in", "out"))
    pairs = []
    if way in ("both", "out"):
        pairs += [(x, y) for x in half for y in rest]
    if way in ("both", "in"):
        pairs += [(y, x) for x in half for y in rest]
    return {"pairs": pairs, "what": f"{way}: {','.join(half)}"}


def draw_ring(chance, names):
    """Each hears its two neighbours only, or (one way) only the one before it."""
    order = chance.sample(names, len(names))
    is_one_way = chance.random() < 0.5
    n = len(order)
    kept = {(order[i], order[(i + 1) % n]) for i in range(n)}
    if not is_one_way:
        kept |= {(y, x) for x, y in kept}
    pairs = [(x, y) for x in names for y in names if x != y and (x, y) not in kept]
    return {"pairs": pairs, "what": ("one way " if is_one_way else "") + "ring " + ",".join(order)}


def draw_bridge(chance, names):
    """Two halves that see each other only through one machine, which both see."""
    order = chance.sample(names, len(names))
    middle, rest = order[0], order[1:]
    left, right = rest[:len(rest) // 2], rest[len(rest) // 2:]
    pairs = [(x, y) for x in left for y in right] + [(y, x) for x in left for y in right]
    return {"pairs": pairs, "what": f"bridge {middle}"}


def draw_some_pairs(chance, names):
    every = [(x, y) for x in names for y in names if x != y]
    return {"pairs": sorted(chance.sample(every, chance.randint(1, len(every) - 1))),
            "what": "any pairs"}


def pairs_of(f):
    return {tuple(p) for p in f["pairs"]}


def begin_cut(bed, f):
    bed.begin_cut(pairs_of(f))


def end_cut(bed, f):
    bed.end_cut(pairs_of(f))


def draw_bad(chance, names):
    """Settings of wire.c: delay, jitter (ms), lost, doubled, overtaking (of 1000)."""
    every = [(x, y) for x in names for y in names if x != y]
    n = len(every) if chance.random() < 0.5 else chance.randint(1, len(every))
    settings = {"slow": (chance.randint(5, 120), chance.randint(0, 60), 0, 0, 0),
                "lossy": (0, 2, chance.randint(5, 300), 0, 0),
                "doubling": (0, 5, 0, chance.randint(50, 500), 0),
                "overtaking": (2, 40, 0, 0, chance.randint(50, 500)),
                "all of it": (chance.randint(0, 40), 30, chance.randint(0, 100),
                              chance.randint(0, 200), chance.randint(0, 300))}
    what = chance.choice(sorted(settings))
    return {"pairs": sorted(chance.sample(every, n)),
            "settings": " ".join(str(n) for n in settings[what]), "what": what}


def begin_bad(bed, f):
    bed.begin_bad(pairs_of(f), f["settings"])


def end_bad(bed, f):
    bed.end_bad(pairs_of(f), f["settings"])


# ---- machines ----

def each(name, *words):
    """A method of every machine that it hits."""
    def act(bed, f):
        for who in f["who"]:
            getattr(bed[who], name)(*words)
    return act


def begin_kill_all(bed, f):
    """All at once: first every signal, then what takes time."""
    for who in f["who"]:
        bed[who].is_expected = True
    for who in f["who"]:
        bed[who].signal_all(9, "muster")
    for who in f["who"]:
        bed[who].hold_down()


def begin_steps(bed, f):
    for who in f["who"]:
        bed[who].step_clock(f["step"])


def end_steps(bed, f):
    """It stays wrong now and then: nothing but the next step puts it right."""
    if not f["stays"]:
        for who in f["who"]:
            bed[who].step_clock(0)


def draw_sick(chance, names):
    """struct sick of sickdisk.c: an errno for writes, for syncs, ms a sync takes, syncs stuck,
    writes stuck."""
    eio = 5
    how = {"writes fail": (eio, 0, 0, 0, 0, 0), "syncs fail": (0, eio, 0, 0, 0, 0),
           "slow syncs": (0, 0, chance.choice((20, 100, 500, 1500)), 0, 0, 0),
           "stuck syncs": (0, 0, 0, 1, 0, 0), "stuck writes": (0, 0, 0, 0, 1, 0)}
    what = chance.choice(sorted(how))
    return {"who": some(chance, names, 1, 1 if chance.random() < 0.7 else len(names)),
            "sick": how[what], "what": what}


def begin_sick(bed, f):
    for who in f["who"]:
        bed[who].hold_sick(f["sick"])


def draw_step(chance, names):
    step = chance.choice((-86400 * 400, -3600, -31, -5, -1, 1, 5, 31, 3600, 86400 * 400))
    return {"who": some(chance, names, 1, len(names)), "step": step,
            "stays": chance.random() < 0.3}


# kind -> (weight, draw, begin, end). What "for" draw does not give lasts LASTS_S.
KINDS = {
    "cut": (5, draw_cut, begin_cut, end_cut),
    "ring": (1, draw_ring, begin_cut, end_cut),
    "bridge": (1, draw_bridge, begin_cut, end_cut),
    "pairs": (1, draw_some_pairs, begin_cut, end_cut),
    "bad wire": (3, draw_bad, begin_bad, end_bad),
    "freeze": (3, one, each("hold_frozen", False), each("let_go")),
    "freeze some": (1, any_of_them, each("hold_frozen", False), each("let_go")),
    "freeze all of it": (1, one, each("hold_frozen", True), each("let_go")),
    "kill -9": (4, one, each("hold_down"), each("let_up")),
    "kill -9 minority": (2, minority, each("hold_down"), each("let_up")),
    "kill -9 all": (2, everybody, begin_kill_all, each("let_up")),
    "power off": (2, one, each("hold_off"), each("switch_on")),
    "link down": (2, one, each("hold_unlinked"), each("let_link")),
    "restart": (2, one, each("hold_stopped"), each("let_start")),
    "restart some": (1, any_of_them, each("hold_stopped"), each("let_start")),
    "full disk": (1, one, each("hold_full"), each("let_room")),
    "full disks": (1, any_of_them, each("hold_full"), each("let_room")),
    "sick disk": (2, draw_sick, begin_sick, each("let_well")),
    "clock step": (2, draw_step, begin_steps, end_steps),
    "lost disk": (2, one, each("hold_wiped"), each("let_up")),
}
# Of these a round has one at most: before the round ends, its machine is a voter again. With two
# at once what a quorum had acknowledged could be gone, and nobody promises otherwise.
ONCE = ("lost disk",)


def draw(seed, number, names, only=()):
    """The schedule of one round."""
    chance = random.Random(f"{seed}/{number}")
    names = list(names)
    kinds = [k for k in KINDS if (k in only if only else True) and
             (k != "sick disk" or os.path.exists(SICKDISK))]
    # Now and then few kinds only, but these often.
    if chance.random() < 0.4:
        kinds = chance.sample(kinds, min(len(kinds), chance.randint(1, 3)))
    weights = [KINDS[k][0] * chance.choice((1, 1, 1, 4)) for k in kinds]
    length = chance.uniform(*ROUND_S)
    apart = chance.uniform(*APART_S)
    longest = chance.uniform(1.0, LASTS_S[1])
    schedule, at = [], 0.5
    while at < length:
        kind = chance.choices(kinds, weights)[0]
        f = {"at": round(at, 2), "for": round(chance.uniform(LASTS_S[0], longest), 2),
             "kind": kind}
        f.update(KINDS[kind][1](chance, names))
        if kind not in ONCE or all(g["kind"] != kind for g in schedule):
            schedule.append(f)
        at += chance.expovariate(1 / apart)
    return schedule


def begin(bed, f):
    KINDS[f["kind"]][2](bed, f)


def end(bed, f):
    KINDS[f["kind"]][3](bed, f)


def text_of(f):
    more = " ".join(t for t in (f.get("what"), ",".join(f.get("who", ()))) if t)
    if "step" in f:
        more += f" {f['step']:+d} s"
    return f"{f['kind']} ({more}) for {f['for']:g} s"
