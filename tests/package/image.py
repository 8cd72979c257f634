#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Does what deploy/docker/Dockerfile says, without Docker: every stage is a Debian that mmdebstrap makes, RUN is
chroot, COPY is cp, and at last the entry point runs as the image's user on a read-only root. Prints TAP. Wants root,
mount namespaces and a Debian mirror. It is no Docker: layers, networks and Docker's own seccomp profile are not tested.

Usage: image.py ROOT
"""
import ctypes
import fnmatch
import os
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.abspath(sys.argv[1])
sys.path.insert(0, os.path.join(ROOT, "tests/deploy"))
import dockerfile  # noqa: E402
import tap  # noqa: E402

DOCKERFILE = os.path.join(ROOT, "deploy/docker/Dockerfile")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000


class Failed(Exception):
    """A step failed; its output."""


def run(*command, **options):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", check=False, **options)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}\n" + "\n".join(done.stdout.splitlines()[-30:]))
    return done.stdout


def own_mounts():
    """What is mounted from here on is ours, and ends with us."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0 or libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        raise tap.Skip("mount namespaces are not allowed here")


def make_debian(tree):
    run("mmdebstrap", "--quiet", "--variant=minbase", "bookworm", tree)
    shutil.copy("/etc/resolv.conf", os.path.join(tree, "etc"))


def ignored(path, patterns):
    """Whether the path or a directory above it fits."""
    parts = path.split("/")
    for pattern in patterns:
        anywhere = pattern.startswith("**/")
        for n in range(1, len(parts) + 1):
            name = parts[n - 1] if anywhere else "/".join(parts[:n])
            if fnmatch.fnmatch(name, pattern.removeprefix("**/")):
                return True
    return False


def context_files():
    """What Docker would send, of what git knows."""
    with open(DOCKERFILE + ".dockerignore", encoding="utf-8") as file:
        patterns = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    listed = run("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate")
    return [path for path in listed.splitlines()
            if os.path.exists(os.path.join(ROOT, path)) and not ignored(path, patterns)]


class Tree:
    """A stage's file system."""

    def __init__(self, path):
        self.path = path
        self.directory = "/"
        self.user = "0:0"

    def at(self, path):
        """Where a path of the image lies here."""
        return self.path + os.path.join(self.directory, path)

    def do(self, instruction, text, trees):
        if instruction == "RUN":
            run("chroot", self.path, "/usr/bin/env", "-i", "PATH=" + PATH, "DEBIAN_FRONTEND=noninteractive",
                "/bin/sh", "-c", f"cd {self.directory} && {text}")
        elif instruction == "WORKDIR":
            self.directory = text
            os.makedirs(self.at(""), exist_ok=True)
        elif instruction == "USER":
            self.user = text
        elif instruction == "COPY":
            self.copy(text.split(), trees)

    def copy(self, words, trees):
        if words[0].startswith("--from="):
            other = trees[words[0].removeprefix("--from=")]
            run("cp", "-a", "--no-preserve=ownership", other.at(words[1]) + ".", self.at(words[2]))
            return
        for path in context_files():
            target = os.path.join(self.at(words[1]), path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy2(os.path.join(ROOT, path), target, follow_symlinks=False)


def as_container(tree, command):
    """The command line for a process of the container."""
    uid, gid = tree.user.split(":")
    return ["chroot", tree.path, "/usr/bin/env", "-i", "PATH=" + PATH, "setpriv", f"--reuid={uid}", f"--regid={gid}",
            "--clear-groups", "--bounding-set=-all", "--no-new-privs", *command]


def run_container(tree, stage):
    """--read-only, a volume, the entry point, HEALTHCHECK until it succeeds, and a stop."""
    run("mount", "--bind", tree.path, tree.path)
    run("mount", "-t", "proc", "proc", tree.path + "/proc")
    for volume in stage.of("VOLUME"):
        owner = os.stat(tree.path + volume)
        run("mount", "-t", "tmpfs", "-o", f"uid={owner.st_uid},gid={owner.st_gid},mode=755", "tmpfs",
            tree.path + volume)
    run("mount", "-o", "remount,bind,ro", tree.path)
    probe = dockerfile.exec_form(stage.of("HEALTHCHECK")[0].split("CMD")[1])
    with tempfile.TemporaryFile("w+") as log:
        entry = as_container(tree, dockerfile.exec_form(stage.of("ENTRYPOINT")[0]) + ["--arena-bytes", "64MiB"])
        daemon = subprocess.Popen(entry, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            for _ in range(200):
                healthy = subprocess.run(as_container(tree, probe), capture_output=True, check=False).returncode == 0
                if healthy or daemon.poll() is not None:
                    break
                time.sleep(0.1)
        finally:
            daemon.terminate()
            status = daemon.wait()
        log.seek(0)
        if not healthy or status != 0:
            raise Failed(f"healthy: {healthy}; status at the end: {status}\n{log.read()}")


def faults_of(function, *arguments):
    try:
        function(*arguments)
    except Failed as failed:
        yield str(failed)


def main():
    if os.geteuid() != 0 or not shutil.which("mmdebstrap"):
        print("1..1\nok 1 - image # SKIP this needs root and mmdebstrap")
        return 0
    try:
        own_mounts()
    except tap.Skip as skip:
        print(f"1..1\nok 1 - image # SKIP {skip}")
        return 0
    stages = dockerfile.read(DOCKERFILE)
    with tempfile.TemporaryDirectory() as work:
        os.chmod(work, 0o755)
        trees = {}

        def build(stage):
            tree = trees[stage.name] = Tree(os.path.join(work, stage.name or "image"))
            make_debian(tree.path)
            for instruction, text in stage.steps:
                tree.do(instruction, text, trees)

        def builder():
            """the programs are built in the first stage"""
            yield from faults_of(build, stages[0])

        def image():
            """the image is made from them"""
            yield from faults_of(build, stages[1])

        def container():
            """it runs on a read-only root, becomes healthy, and stops"""
            tree = trees[stages[1].name]
            try:
                yield from faults_of(run_container, tree, stages[1])
            finally:
                subprocess.run(["umount", "--recursive", tree.path], check=False)

        return tap.run([builder, image, container])


if __name__ == "__main__":
    sys.exit(main())
