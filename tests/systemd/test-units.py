#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What goes to systemd, judged by systemd's own tools, as a TAP test.

    test-units.py ROOT BUILD KVPAGED

ROOT is the source tree, BUILD the build directory.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

EXPOSURE_TENTHS_MAX = 15  # of systemd-analyze security
INSTANCE = "tenant"


class Skip(Exception):
    """What a test needs is not there."""


def need(program):
    if not shutil.which(program):
        raise Skip(f"there is no {program} (package systemd)")


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def read(*parts):
    with open(os.path.join(*parts), encoding="utf-8") as stream:
        return stream.read()


class Tree:
    """The files, and units in a directory of their own, for a kvpaged that is there."""

    def __init__(self, root, build, kvpaged, work):
        self.root, self.build, self.kvpaged, self.work = root, build, kvpaged, work
        self.source = os.path.join(root, "systemd")
        self.made = os.path.join(build, "systemd")

    def unit(self, name):
        """The text of a unit as it is installed."""
        directory = self.source if name.endswith(".socket") else self.made
        return read(directory, name)

    def lay_out(self):
        for name in ("kvpaged.service", "kvpaged.socket", "kvpaged@.service", "kvpaged@.socket"):
            text = re.sub(r"^ExecStart=\S+", f"ExecStart={self.kvpaged}", self.unit(name), flags=re.M)
            for target in {name, name.replace("@.", f"@{INSTANCE}.")}:
                with open(os.path.join(self.work, target), "w", encoding="utf-8") as unit:
                    unit.write(text)


def test_verify(tree):
    """systemd-analyze verify finds nothing"""
    need("systemd-analyze")
    for stem in ("kvpaged", f"kvpaged@{INSTANCE}"):
        said = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", f"{stem}.service",
                   f"{stem}.socket", cwd=tree.work)
        assert "kvpaged" not in said, said


def test_security(tree):
    """systemd-analyze security is content"""
    need("systemd-analyze")
    for stem in ("kvpaged", f"kvpaged@{INSTANCE}"):
        run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_TENTHS_MAX}", f"{stem}.service",
            cwd=tree.work)


def calls_in(group):
    """The system calls of a group of systemd's, with those of the groups in it."""
    calls = set()
    for line in run("systemd-analyze", "syscall-filter", group).splitlines()[1:]:
        name = line.strip()
        if name.startswith("@"):
            calls |= calls_in(name)
        elif name and not name.startswith("#"):
            calls.add(name)
    return calls


def test_disk_calls(tree):
    """the tier's transfers are not forbidden: io_uring, or what threads do instead"""
    need("systemd-analyze")
    allowed = set()
    for denied, groups in re.findall(r"^SystemCallFilter=(~?)(.*)$", tree.unit("kvpaged.service"), re.M):
        for group in groups.split():
            allowed = allowed - calls_in(group) if denied else allowed | calls_in(group)
    wanted = {"io_uring_setup", "io_uring_enter", "io_uring_register", "eventfd2", "pread64", "pwrite64", "fallocate",
              "ftruncate", "fdatasync", "fsync", "flock", "fstatfs", "statx", "unlinkat", "mkdir", "clone3"}
    assert wanted <= allowed, wanted - allowed


def test_names(tree):
    """sockets have names that kvpaged takes, and users are the units' own"""
    names = re.findall(r'^#define ACTIVATION_\w+ "(\w+)"', read(tree.root, "daemon/host/activation.h"), re.M)
    for stem, user in (("kvpaged", "kvpaged"), ("kvpaged@", "kvpaged-%i")):
        socket, service = tree.unit(f"{stem}.socket"), tree.unit(f"{stem}.service")
        name = re.search(r"^FileDescriptorName=(.*)$", socket, re.M).group(1)
        assert name in names, f"{name} is not one of {names}"
        for line in (f"SocketGroup={user}", "SocketMode=0660", "RemoveOnStop=yes"):
            assert f"\n{line}\n" in socket, line
        for line in (f"User={user}", f"Group={user}", "Type=notify", f"RuntimeDirectory={user}"):
            assert f"\n{line}\n" in service, line
        assert f"ListenStream=/run/{user}/" in socket, socket
        assert "@bindir@" not in service and "@hardening@" not in service, service


def test_sysusers(tree):
    """systemd-sysusers makes the user and its group"""
    need("systemd-sysusers")
    root = os.path.join(tree.work, "root")
    os.makedirs(os.path.join(root, "etc"), exist_ok=True)
    run("systemd-sysusers", f"--root={root}", os.path.join(tree.source, "kvpaged.sysusers"))
    assert re.search(r"^kvpaged:x:\d+:", read(root, "etc/group"), re.M)
    assert re.search(r"^kvpaged:x:\d+:\d+:kvpaged:/nonexistent:\S*nologin$", read(root, "etc/passwd"), re.M)


def test_tmpfiles(tree):
    """systemd-tmpfiles makes the directories, and copies the example only where nothing is"""
    need("systemd-tmpfiles")
    if os.geteuid() != 0:
        raise Skip("only root can make what belongs to others")
    need("systemd-sysusers")
    test_sysusers(tree)
    root = os.path.join(tree.work, "root")
    rules = os.path.join(tree.made, "kvpaged.tmpfiles")
    example = os.path.join(tree.build, "daemon", "kvpaged.conf")
    vendor = re.search(r"^C .* (\S+)$", read(rules), re.M).group(1)
    os.makedirs(os.path.dirname(root + vendor))
    shutil.copy(example, root + vendor)
    run("systemd-tmpfiles", "--create", f"--root={root}", rules)
    installed = os.path.join(root, "etc/kvpaged/kvpaged.conf")
    assert read(installed) == read(example)
    uid = int(re.search(r"^kvpaged:x:(\d+):", read(root, "etc/passwd"), re.M).group(1))
    there = os.stat(os.path.join(root, "run/kvpaged"))
    assert (there.st_uid, there.st_mode & 0o7777) == (uid, 0o755), there
    with open(installed, "w", encoding="utf-8") as stream:
        stream.write("# mine\n")
    run("systemd-tmpfiles", "--create", f"--root={root}", rules)
    assert read(installed) == "# mine\n"


def catalog_entries(text):
    """{name: id}, from '# NAME' above '-- ID'."""
    return dict(re.findall(r"^# (\w+)\n-- ([0-9a-f]{32})\nSubject: .+\nDefined-By: kvpaged\nDocumentation: .+\n\n\S",
                           text, re.M))


def test_catalogue_is_complete(tree):
    """the catalogue explains every message of the code and no other"""
    code = dict(re.findall(r'^MESSAGE\((\w+), \w+, "([0-9a-f]{32})"\)$', read(tree.root, "daemon/host/messages.def"),
                           re.M))
    text = read(tree.source, "kvpaged.catalog")
    assert len(code) > 10 and len(set(code.values())) == len(code), code
    assert catalog_entries(text) == code, set(catalog_entries(text).items()) ^ set(code.items())
    assert len(re.findall("^-- ", text, re.M)) == len(code)
    used = "".join(read(directory, name) for directory in (os.path.join(tree.root, "daemon"),
                                                           os.path.join(tree.root, "daemon/host"))
                   for name in sorted(os.listdir(directory)) if name.endswith(".c"))
    for name in code:
        assert re.search(rf"\bMESSAGE_{name}\b", used), f"{name} is never logged"


def test_catalogue_is_read(tree):
    """journalctl takes the catalogue"""
    need("journalctl")
    root = os.path.join(tree.work, "journal")
    directory = os.path.join(root, "usr/lib/systemd/catalog")
    os.makedirs(directory)
    shutil.copy(os.path.join(tree.source, "kvpaged.catalog"), directory)
    said = run("journalctl", f"--root={root}", "--update-catalog")
    assert said == "", said
    listed = re.findall(r"^([0-9a-f]{32}) kvpaged: ", run("journalctl", f"--root={root}", "--list-catalog"), re.M)
    assert set(listed) == set(catalog_entries(read(tree.source, "kvpaged.catalog")).values()), listed


def printed(tree, path):
    """{setting: value} as kvpaged understands the file."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KVPAGED_")}
    text = run(tree.kvpaged, "--config", path, "--print-config", env=environment)
    return {name: (value.strip(), origin)
            for name, value, origin in re.findall(r"^(\S+) =(.*)   # (.*)$", text, re.M)}


def test_example(tree):
    """the example configuration has every setting, with its default"""
    example = os.path.join(tree.build, "daemon", "kvpaged.conf")
    if not os.path.exists(example):
        raise Skip("the example is not made when kvpaged cannot run where it is built")
    defaults = printed(tree, example)
    assert len(defaults) > 20 and all(origin == "default" for _, origin in defaults.values()), defaults
    active = os.path.join(tree.work, "active.conf")
    with open(active, "w", encoding="utf-8") as stream:
        stream.write(re.sub(r"^#(\w+ =)", r"\1", read(example), flags=re.M))
    os.chmod(active, 0o644)
    for name, (value, origin) in printed(tree, active).items():
        assert origin.startswith(active), f"{name} is not in the example"
        assert value == defaults[name][0], name


TESTS = (test_verify, test_security, test_disk_calls, test_names, test_sysusers, test_tmpfiles,
         test_catalogue_is_complete,
         test_catalogue_is_read, test_example)


def report(number, test, arguments):
    with tempfile.TemporaryDirectory(prefix="kvp-units-") as work:
        tree = Tree(arguments.root, arguments.build, arguments.kvpaged, work)
        tree.lay_out()
        try:
            test(tree)
        except Skip as reason:
            print(f"ok {number} - {test.__doc__} # SKIP {reason}")
            return True
        except (AssertionError, AttributeError, OSError, subprocess.SubprocessError) as error:
            print(f"not ok {number} - {test.__doc__}")
            print("\n".join(f"# {line}" for line in f"{type(error).__name__}: {error}".splitlines()))
            return False
    print(f"ok {number} - {test.__doc__}")
    return True


def main():
    parser = argparse.ArgumentParser(description="Checks units and what belongs to them.")
    for name in ("root", "build", "kvpaged"):
        parser.add_argument(name, type=os.path.abspath)
    arguments = parser.parse_args()
    print(f"1..{len(TESTS)}")
    return 0 if all([report(n, test, arguments) for n, test in enumerate(TESTS, 1)]) else 1


if __name__ == "__main__":
    sys.exit(main())
