#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The four-letter words and the admin commands in an ensemble of three: what only a leader
says, what the followers say, and what is said when the others are gone."""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from cluster import Failed, Site, http_get, wait_for  # noqa: E402
from report import Report  # noqa: E402

PORT_HTTP = 2180
LEADER_KEYS = ("learners", "synced_followers", "synced_observers", "synced_non_voting_followers",
               "pending_syncs", "leader_uptime", "last_proposal_size", "max_proposal_size")
NOT_SERVING = "This ZooKeeper instance is not currently serving requests"
SYNC_LIMIT_S = 10  # syncLimit ticks: then a server that is not heard does not count


def mntr(m):
    return dict(line.split("\t", 1) for line in m.word("mntr").splitlines() if "\t" in line)


def page(m, command):
    code, body = http_get(m.ns, m.address, PORT_HTTP, "/commands/" + command, 2.0)
    if code != 200:
        raise Failed(f"{m.name}: /commands/{command}: {code} {body}")
    return json.loads(body)


def expect(what, got, wanted):
    if got != wanted:
        raise Failed(f"{what}: {got!r} instead of {wanted!r}")


def leader_of(site):
    return site[site.leader()]


def all_vote(site):
    """Who has just joined votes when it has caught up."""
    def sizes():
        return [mntr(m).get("zk_quorum_size") for m in site.machines.values()]
    wait_for(lambda: sizes() == ["3", "3", "3"], 20, lambda: f"three to vote: {sizes()}")


def roles(site):
    modes = sorted(m.mode() for m in site.machines.values())
    expect("modes", modes, ["follower", "follower", "leader"])
    for m in site.machines.values():
        said = mntr(m)
        leads = m.mode() == "leader"
        expect(f"{m.name}: state", said["zk_server_state"], m.mode())
        expect(f"{m.name}: peer_state", said["zk_peer_state"],
               "leading - broadcast" if leads else "following - broadcast")
        expect(f"{m.name}: quorum_size", said["zk_quorum_size"], "3")
        for key in LEADER_KEYS:
            expect(f"{m.name}: zk_{key} is there", "zk_" + key in said, leads)
        expect(f"{m.name}: proposal sizes", "\nProposal sizes last/min/max: " in m.word("srvr"),
               leads)


def a_write_is_counted(site):
    def counts():
        found = {}
        for m in site.machines.values():
            said = mntr(m)
            found[m.name] = [int(said[k]) for k in (
                "zk_proposal_count", "zk_commit_count", "zk_learner_commit_received_count")]
        return found
    leader, before = leader_of(site).name, counts()
    site["c"].muster("create", "/words", "x")

    def is_counted(name, now):
        lead, follow = ([a > b for a, b in zip(now[name][i:j], before[name][i:j])]
                        for i, j in ((0, 2), (2, 3)))
        return all(lead) and not any(follow) if name == leader else all(follow) and not any(lead)
    wait_for(lambda: (now := counts()) and all(is_counted(n, now) for n in now), 10,
             lambda: f"a write to be counted: {before}, then {counts()}; {leader} leads")


def followers_are_synced(site):
    leader = leader_of(site)

    def both():
        said = mntr(leader)
        return [said.get(f"zk_{k}") for k in ("learners", "synced_followers", "followers")]
    wait_for(lambda: both() == ["2", "2", "2"], 20, lambda: f"both to be synced: {both()}")


def commands(site):
    ids = set()
    for m in site.machines.values():
        said = page(m, "leader")
        ids.add((said["leader_id"], said["leader_ip"]))
        expect(f"{m.name}: is_leader", said["is_leader"], m.mode() == "leader")
        expect(f"{m.name}: stats", page(m, "stats")["server_stats"]["server_state"], m.mode())
        expect(f"{m.name}: voting_view", len(page(m, "voting_view")["current_config"]), 3)
        expect(f"{m.name}: zabstate", page(m, "zabstate")["zabstate"], "broadcast")
        # Only who leads knows when sessions end; everybody knows whose the ephemerals are.
        dump = page(m, "dump")
        expect(f"{m.name}: knows of ends", bool(dump["expiry_time_to_session_ids"]),
               m.mode() == "leader")
        expect(f"{m.name}: owners of ephemerals", len(dump["session_id_to_ephemeral_paths"]), 3)
    expect("servers that are called leader", len(ids), 1)
    expect("its address", ids.pop()[1], leader_of(site).address)


def one_dies(site):
    leader = leader_of(site)
    victim = next(m for m in site.machines.values() if m is not leader)
    victim.kill_daemon()
    wait_for(lambda: mntr(leader).get("zk_synced_followers") == "1", SYNC_LIMIT_S + 10,
             "the dead one to count no more")
    return victim


def both_die(site, dead):
    last = leader_of(site)
    for m in site.machines.values():
        if m not in (last, dead):
            m.kill_daemon()
    wait_for(lambda: last.word("srvr") == NOT_SERVING + "\n", 20,
             lambda: f"no quorum to be said: {last.word('srvr')!r}")
    for word, wanted in (("ruok", "imok"), ("isro", "null"), ("mntr", NOT_SERVING + "\n"),
                         ("stat", NOT_SERVING + "\n")):
        expect(word, last.word(word), wanted)
    expect("envi", last.word("envi").startswith("Environment:\nzookeeper.version=3.8.0-"), True)
    expect("/commands/stats", page(last, "stats"), {"command": "stats", "error": NOT_SERVING})
    expect("/commands/zabstate", page(last, "zabstate")["zabstate"], "election")
    expect("/commands/environment", page(last, "environment")["error"], None)


def main():
    report = Report("words of three: ")
    site = Site("mtw", f"/tmp/muster-words-{os.getpid()}")
    dead = []
    try:
        site.open()
        if report.run("they start", site.form):
            report.run("all three vote", lambda: all_vote(site))
            report.run("one leads, two follow, and each says so", lambda: roles(site))
            report.run("a write is counted where it is", lambda: a_write_is_counted(site))
            report.run("the leader's followers are synced", lambda: followers_are_synced(site))
            report.run("the admin commands", lambda: commands(site))
            report.run("one dies: the leader has one follower",
                       lambda: dead.append(one_dies(site)))
            if dead:
                report.run("both die: words without a quorum", lambda: both_die(site, dead[0]))
        report.stop_well(site)
    finally:
        for m in site.machines.values():
            print(f"--- {m.name}: {m.log_tail(lines=3)}")
        site.close()
        site.remove_files()
    report.end()


if __name__ == "__main__":
    main()
