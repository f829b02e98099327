#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""./dev up and its company: the site of three machines that a newcomer plays with.

Nothing is remembered about faults: whether a machine is off, frozen or cut is read from its
link, its processes and the bridge, so what a person did by hand is seen as well.
"""
import contextlib
import os
import re
import signal
import subprocess
import sys
import time

from cluster import MUSTER, TOP, Failed, Site, http_get, note, run, wait_for

PREFIX = os.environ.get("MUSTER_SITE", "muster")
NET = os.environ.get("MUSTER_NET", "10.77.0")
RUN = os.path.join(TOP, ".run", PREFIX)


def make_site():
    if not re.fullmatch(r"(\d{1,3}\.){2}\d{1,3}", NET):
        raise Failed(f"MUSTER_NET={NET}: the first three numbers of a network, like 10.78.0")
    return Site(PREFIX, RUN, net=NET, host=True)


def own_prefix():
    """How a command is repeated for this very site."""
    words = [f"{k}={os.environ[k]} " for k in ("MUSTER_SITE", "MUSTER_NET") if k in os.environ]
    return "".join(words) + "./dev"


# ---- what state a machine is in ----

def process_state(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            return f.read().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def is_off(m):
    return "state UP" not in run("ip", "-n", m.ns, "link", "show", "eth0")


def is_frozen(m):
    return any(process_state(p) == "T" for p in m.pids("muster"))


def is_unplugged(m):
    return f"master {m.site.bridge}" not in run("ip", *m.site.bridge_ns_words(), "link", "show",
                                                m.port)


def condition(m):
    if not m.pids():
        return "off (./dev kill)"
    found = []
    if is_unplugged(m):
        found.append("cut off (./dev cut)")
    elif is_off(m):
        found.append("its link is down")
    if is_frozen(m):
        found.append("frozen (./dev freeze)")
    if not m.pids("muster"):
        found.append("muster does not run")
    return ", ".join(found) or "runs"


# ---- commands ----

def write_site_file():
    """The example, with the addresses of this network."""
    with open(os.path.join(TOP, "docs", "examples", "shop.yml"), encoding="utf-8") as f:
        text = f.read().replace("10.77.0.", NET + ".")
    path = os.path.join(RUN, "site.yml")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


def site_answers(site):
    code, body = http_get(None, site.vip, 80, "/", 1.0)
    return body.strip() if code == 200 else None


def print_status(site):
    """muster status, of the first machine that gives one. Its exit code, 1: none did."""
    for m in site.machines.values():
        if not m.pids("muster") or is_frozen(m) or is_unplugged(m):
            continue
        r = subprocess.run(["ip", "netns", "exec", m.ns, MUSTER, "status"], text=True,
                           stdin=subprocess.DEVNULL, capture_output=True, timeout=15,
                           check=False)
        if r.returncode in (0, 3, 4):
            print(r.stdout, end="", flush=True)
            return r.returncode
        note(r.stderr.strip())
    return 1


def up():
    site = make_site()
    have = site.existing()
    if have:
        running = [m.name for m in site.machines.values() if m.ns in have and m.pids("muster")]
        if len(have) == len(site.namespaces()) and running:
            print(f"A site runs already ({', '.join(site.machines)}; http://{site.vip}/). "
                  f"Nothing was changed.\n  {own_prefix()} status    how it is\n"
                  f"  {own_prefix()} heal      undo all faults\n  {own_prefix()} down      end it")
            return 0
        raise Failed(f"parts of a site are there ({', '.join(have)}), but it does not run whole: "
                     f"{own_prefix()} heal repairs it, {own_prefix()} down removes it")
    site.remove_files()
    os.makedirs(RUN)
    try:
        begun = time.monotonic()
        note(f"three machines: {', '.join(f'{m.name} {m.address}' for m in site.machines.values())}")
        site.open()
        site.form(note, before=lambda m: m.start_clones())
        note("muster apply site.yml")
        note(site.apply(write_site_file()).rstrip())
        note(f"waiting for http://{site.vip}/")
        wait_for(lambda: site_answers(site), 30, f"http://{site.vip}/ to answer:\n" +
                 site["a"].log_tail(lines=8), 0.1)
        wait_for(lambda: len(clones_seen(site)) == 6, 30, lambda:
                 "all six clones to be in the pool; seen: " + ", ".join(clones_seen(site)), 0.2)
        note(f"up after {time.monotonic() - begun:.1f} s\n")
    except KeyboardInterrupt:
        note("\ninterrupted: removing what was made")
        forbid_interrupts()
        site.close()
        remove_run(site)
        return 130
    except (Failed, OSError, subprocess.SubprocessError) as e:
        forbid_interrupts()
        site.close()
        raise Failed(f"{e}\nEverything was removed but the logs in .run/{PREFIX}/") from e
    print_status(site)
    dev = own_prefix()
    print(f"""
The site answers on http://{site.vip}/ from this host. Try:

  while sleep 0.2; do curl -s -m 1 http://{site.vip}/; done      in another terminal, then
  {dev} kill a          switch a machine off; {dev} heal a switches it on
  {dev} freeze b        it hangs; {dev} cut c: it is alone
  {dev} status          how the site is, and why
  ip netns exec {site['a'].ns} {os.path.relpath(MUSTER)} ls /        the tree, as machine a sees it
  {dev} down            the end; leaves nothing behind""")
    return 0


def clones_seen(site):
    """Who answers on the address now: a round of questions, each a new connection."""
    seen = set()
    for _ in range(12):
        text = site_answers(site)
        if text:
            seen.add(text)
    return sorted(seen)


def forbid_interrupts():
    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, signal.SIG_IGN)


def the_site():
    site = make_site()
    if not site.existing():
        raise Failed(f"no site runs here: {own_prefix()} up starts one")
    return site


def the_machine(site, words):
    if len(words) != 1 or words[0] not in site.machines:
        raise Failed(f"which machine? one of {', '.join(site.machines)}")
    m = site.machines[words[0]]
    if m.ns not in site.existing():
        raise Failed(f"machine {m.name} is not there: {own_prefix()} down, {own_prefix()} up")
    return m


def status():
    site = the_site()
    code = print_status(site)
    for m in site.machines.values():
        how = condition(m)
        if how != "runs":
            print(f"(machine {m.name}: {how})")
    return code


def kill(words):
    m = the_machine(the_site(), words)
    m.power_off()
    print(f"{m.name} is off. On again: {own_prefix()} heal {m.name}")
    return 0


def freeze(words):
    m = the_machine(the_site(), words)
    if not m.pids("muster"):
        raise Failed(f"muster does not run on {m.name}")
    m.freeze()
    print(f"muster on {m.name} is stopped (SIGSTOP). On again: {own_prefix()} heal {m.name}")
    return 0


def cut(words):
    m = the_machine(the_site(), words)
    m.unplug()
    print(f"{m.name} is cut off; it runs on, alone. Back: {own_prefix()} heal {m.name}")
    return 0


def heal_one(m):
    done = []
    if is_frozen(m):
        m.thaw()
        done.append("muster goes on")
    if is_unplugged(m):
        m.plug()
        done.append("plugged in")
    if is_off(m) and not m.pids():
        m.link("up")
        done.append("switched on")
    for i in (1, 2):
        if not any(f"web{i}/nginx.conf" in full_command(p) for p in m.pids()):
            m.start_clone(i)
            done.append(f"clone {i} started")
    if not m.pids("muster"):
        m.start_muster()
        done.append("muster started")
    return done


def full_command(pid):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read().replace(b"\0", b" ").decode("utf-8", "replace")
    return ""


def heal(words):
    site = the_site()
    machines = [the_machine(site, words)] if words else list(site.machines.values())
    for m in machines:
        print(f"{m.name}: {', '.join(heal_one(m)) or 'nothing to heal'}")
    for m in machines:
        m.wait_ready()
    return 0


def remove_run(site):
    site.remove_files()
    with contextlib.suppress(OSError):  # another site's files are in it
        os.rmdir(os.path.join(TOP, ".run"))


def down():
    site = make_site()
    had = site.existing()
    forbid_interrupts()
    site.close()
    remove_run(site)
    print("the site is gone" if had else "no site ran here")
    return 0


def main(words):
    commands = {"up": lambda w: up(), "status": lambda w: status(), "down": lambda w: down(),
                "kill": kill, "freeze": freeze, "cut": cut, "heal": heal}
    if not words or words[0] not in commands:
        note("usage: shop.py up|status|down|kill M|freeze M|cut M|heal [M]")
        return 2
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # ./dev status | head

    def interrupt(number, frame):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)
    try:
        return commands[words[0]](words[1:])
    except (Failed, subprocess.SubprocessError) as e:
        note(f"dev: {e}")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
