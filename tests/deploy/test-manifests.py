#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What containers and packages are made from, against each other and against the programs: deploy/docker,
deploy/kubernetes, deploy/debian.

Usage: test-manifests.py ROOT KVPAGED KVCTL LIBKVCLIENT VERSION
"""
import errno
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

import dockerfile
import tap

try:
    import yaml
except ImportError:
    yaml = None

ROOT, KVPAGED, KVCTL, LIBRARY, VERSION = sys.argv[1:]
HERE = os.path.dirname(os.path.abspath(__file__))
DOCKERFILE = os.path.join(ROOT, "deploy/docker/Dockerfile")
KUBERNETES = os.path.join(ROOT, "deploy/kubernetes")
PROFILE = os.path.join(KUBERNETES, "seccomp-kvpaged.json")
DEBIAN = os.path.join(ROOT, "deploy/debian")
OWNER = 47180
GIB = 1 << 30
UNITS = {"Mi": 1 << 20, "Gi": GIB}

# Libraries that a kvpaged on this machine may have, and the image's has not: of the C compiler (sanitizers too), and
# systemd's, which has nothing to do in a container.
NOT_IN_THE_IMAGE = re.compile(r"^(libc6|libgcc-s1|lib[alt]san\d+|libubsan\d+|libsystemd0|libcap2|libgcrypt20|"
                              r"libgpg-error0|liblz4-1|liblzma5|libzstd1|libstdc\+\+6|libkvclient0)$")


def text_of(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


def needs_root():
    if os.geteuid() != 0:
        raise tap.Skip("this needs root")


def objects(name):
    if yaml is None:
        raise tap.Skip("there is no python3-yaml")
    return {o["kind"]: o for o in yaml.safe_load_all(text_of("deploy/kubernetes", name))}


def pod_specs():
    """(what, metadata, spec of a pod, name of its main container)"""
    daemons = objects("kvpaged.yaml")["DaemonSet"]
    client = objects("client-example.yaml")["Pod"]
    return [("DaemonSet", daemons["metadata"], daemons["spec"]["template"]["spec"]),
            ("client", client["metadata"], client["spec"])]


def daemon_container():
    return pod_specs()[0][2]["containers"][0]


def config_text():
    return objects("kvpaged.yaml")["ConfigMap"]["data"]["kvpaged.conf"]


# ---- Docker ----

def image_is_locked_down():
    """the image runs kvpaged without a shell, as a user with a number, and asks kvctl for its health"""
    last = dockerfile.read(DOCKERFILE)[-1]
    if last.of("USER") != [f"{OWNER}:{OWNER}"]:
        yield f"USER is {last.of('USER')}"
    if dockerfile.exec_form(last.of("ENTRYPOINT")[0]) != ["kvpaged"]:
        yield f"ENTRYPOINT is {last.of('ENTRYPOINT')}"
    if dockerfile.exec_form(last.of("HEALTHCHECK")[0].split("CMD")[1])[:2] != ["kvctl", "health"]:
        yield f"HEALTHCHECK is {last.of('HEALTHCHECK')}"
    if last.labels().get("org.opencontainers.image.version") != VERSION:
        yield f"the label says version {last.labels().get('org.opencontainers.image.version')}, not {VERSION}"


def image_is_built_as_documented():
    """the image is built with README's commands"""
    commands = " && ".join(dockerfile.read(DOCKERFILE)[0].of("RUN"))
    for command in ("meson setup build --buildtype=release", "ninja -C build"):
        if command not in text_of("README.md"):
            yield f"README.md does not say {command}"
        if command not in commands:
            yield f"the Dockerfile does not say {command}"


def image_packages_exist():
    """the image's packages are Debian 12's"""
    if "VERSION_CODENAME=bookworm" not in open("/etc/os-release", encoding="utf-8").read():
        raise tap.Skip("this is not Debian 12")
    if not run("apt-cache", "madison", "libc6").stdout:
        raise tap.Skip("apt has no lists")
    for stage in dockerfile.read(DOCKERFILE):
        if stage.image != "debian:12-slim":
            yield f"a stage is made from {stage.image}"
        for package in stage.packages():
            if f"{package} |" not in run("apt-cache", "madison", package).stdout:
                yield f"there is no package {package}"


def builder_packages_are_known():
    """what the image is built with is what deploy/packages.sh names"""
    known = re.search(r"build_packages=\((.*?)\)", text_of("deploy/packages.sh"), re.DOTALL).group(1).split()
    for package in set(dockerfile.read(DOCKERFILE)[0].packages()) - set(known):
        yield package


def libraries_of(program):
    return re.findall(r"=> (/\S+)", run("ldd", program).stdout)


def image_has_the_libraries():
    """the image has the libraries that the programs need, and no others"""
    if not shutil.which("dpkg-query"):
        raise tap.Skip("there is no dpkg")
    needed = set()
    for path in libraries_of(KVPAGED) + libraries_of(KVCTL):
        if os.path.basename(path).startswith("libkvclient"):
            continue
        for name in (path, os.path.realpath(path), path.removeprefix("/usr"), "/usr" + path):
            found = run("dpkg-query", "--search", name)
            if found.returncode == 0:
                needed.add(found.stdout.split(":")[0])
                break
        else:
            yield f"no package has {path}"
    if "liburing2" not in needed:
        raise tap.Skip("this kvpaged is built without io_uring, the image's with it")
    needed = {package for package in needed if not NOT_IN_THE_IMAGE.match(package)}
    installed = set(dockerfile.read(DOCKERFILE)[-1].packages())
    if needed != installed:
        yield f"needed: {sorted(needed)}; installed: {sorted(installed)}"


# ---- Kubernetes ----

def manifests_fit_together():
    """volumes, ports, ConfigMaps and images of the manifests are those that they define"""
    kinds = objects("kvpaged.yaml")
    tag = "kvpaged:" + VERSION
    for what, _, spec in pod_specs():
        volumes = {v["name"]: v for v in spec["volumes"]}
        for container in spec.get("initContainers", []) + spec["containers"]:
            if container["image"] != tag:
                yield f"{what}: the image is {container['image']}, not {tag}"
            mounts = {m["name"] for m in container["volumeMounts"]}
            yield from (f"{what}: there is no volume {name}" for name in mounts - set(volumes))
        for volume in volumes.values():
            if "configMap" in volume and volume["configMap"]["name"] != kinds["ConfigMap"]["metadata"]["name"]:
                yield f"{what}: there is no ConfigMap {volume['configMap']['name']}"
            if "hostPath" in volume and volume["hostPath"]["path"] != "/run/kvpaged":
                yield f"{what}: the directory is {volume['hostPath']['path']}"
    daemons = kinds["DaemonSet"]["spec"]
    if daemons["selector"]["matchLabels"].items() - daemons["template"]["metadata"]["labels"].items():
        yield "the selector does not select the pods"
    annotations = daemons["template"]["metadata"]["annotations"]
    if int(annotations["prometheus.io/port"]) not in [p["containerPort"] for p in daemon_container()["ports"]]:
        yield "the port that is to be scraped is none of the container's"
    if any(o["metadata"].get("namespace", "kvpaged") != kinds["Namespace"]["metadata"]["name"] for o in kinds.values()):
        yield "an object is in another namespace"


def pods_are_locked_down():
    """no pod runs as root, may write to its root, or has capabilities; only the init container may chown"""
    for what, _, spec in pod_specs():
        if not spec["securityContext"]["runAsNonRoot"] or spec["securityContext"]["runAsUser"] == 0:
            yield f"{what} runs as root"
        for container in spec.get("initContainers", []) + spec["containers"]:
            context = container["securityContext"]
            added = context["capabilities"].get("add", [])
            if context["allowPrivilegeEscalation"] or not context["readOnlyRootFilesystem"] \
                    or context["capabilities"]["drop"] != ["ALL"] \
                    or added != (["CHOWN"] if container["name"] == "own-the-directory" else []):
                yield f"{what}: {container['name']} has more rights than it needs"
            if "memory" not in container["resources"]["limits"]:
                yield f"{what}: {container['name']} has no limit of memory"
    spec = pod_specs()[0][2]
    if (spec["securityContext"]["runAsUser"], spec["securityContext"]["runAsGroup"]) != (OWNER, OWNER) \
            or f"{OWNER}:{OWNER}" not in spec["initContainers"][0]["command"]:
        yield "the DaemonSet's user is not the image's"
    if pod_specs()[1][2]["securityContext"]["supplementalGroups"] != [OWNER]:
        yield "the client is not in the group"
    if not all(m["readOnly"] for m in pod_specs()[1][2]["containers"][0]["volumeMounts"]):
        yield "the client may write to the directory"


def probes_ask_kvctl():
    """the probes ask kvctl health, with less time than they have"""
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = daemon_container()[name]
        command = probe["exec"]["command"]
        if command[:3] != ["kvctl", "health", "--timeout"] or int(command[3].rstrip("s")) >= probe["timeoutSeconds"]:
            yield f"{name}: {command} in {probe['timeoutSeconds']} s"


def settings():
    """What kvpaged would run with, as its --print-config says."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(config_text())
        file.flush()
        done = run(KVPAGED, "--config", file.name, "--print-config")
    if done.returncode != 0:
        return {}, done.stderr
    return dict(re.findall(r"^(\S+) = ?(.*?) +# ", done.stdout, re.MULTILINE)), ""


def configuration_is_valid():
    """kvpaged takes the ConfigMap's configuration, and the pod has the memory and the time for it"""
    values, why = settings()
    if not values:
        yield why
        return
    limit = daemon_container()["resources"]["limits"]["memory"]
    arena = int(values["arena.bytes"].removesuffix("GiB")) * GIB
    if int(limit[:-2]) * UNITS[limit[-2:]] < arena + GIB:
        yield f"the limit of memory is {limit}, with an arena of {values['arena.bytes']}"
    if daemon_container()["resources"]["requests"]["memory"] != limit:
        yield "memory that is not requested may be missing later"
    grace = pod_specs()[0][2]["terminationGracePeriodSeconds"]
    if int(values["stop.drain_ms"].removesuffix("s")) >= grace:
        yield f"draining takes up to {values['stop.drain_ms']}, and the pod is killed after {grace} s"


# ---- The programs as the pod runs them ----

def make_array(path):
    """As numpy.save() would: two layers of two heads of four tokens of 32 numbers."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2, 4, 32), }"
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
        file.write(struct.pack("<512f", *(i / 8 for i in range(512))))


def without_metrics(config):
    """No test listens on the network."""
    return re.sub(r"^\[metrics\]\n(?:[^\[].*\n|\n)*", "", config, flags=re.MULTILINE)


def fill(work):
    """Programs, library and array, and the configuration as the kubelet lays a ConfigMap out."""
    os.chmod(work, 0o755)
    for path in (KVPAGED, KVCTL):
        shutil.copy(path, work)
    shutil.copy(LIBRARY, os.path.join(work, "libkvclient.so.0"))
    make_array(os.path.join(work, "k.npy"))
    os.makedirs(os.path.join(work, "config/..2026_01_01"))
    with open(os.path.join(work, "config/..2026_01_01/kvpaged.conf"), "w", encoding="utf-8") as file:
        file.write(without_metrics(config_text()))
    os.symlink("..2026_01_01", os.path.join(work, "config/..data"))
    os.symlink("..data/kvpaged.conf", os.path.join(work, "config/kvpaged.conf"))
    os.chmod(os.path.join(work, "config"), 0o777)


def needs_seccomp():
    if run("/usr/bin/python3", "-c", "import seccomp").returncode != 0:
        raise tap.Skip("there is no python3-seccomp")


def pod_runs():
    """kvpaged and a client run as their pods would: users, root, configuration, seccomp profile"""
    needs_root()
    needs_seccomp()
    if run("unshare", "--mount", "true").returncode != 0:
        raise tap.Skip("mount namespaces are not allowed here")
    with tempfile.TemporaryDirectory() as work:
        fill(work)
        done = run("unshare", "--mount", "--propagation", "private", os.path.join(HERE, "pod.sh"), work, PROFILE)
        if done.returncode != 0:
            yield done.stdout + done.stderr


def allowed_calls():
    with open(PROFILE, encoding="utf-8") as file:
        profile = json.load(file)
    if profile["defaultAction"] != "SCMP_ACT_ERRNO":
        yield "what is not named is not denied"
    names = [n for entry in profile["syscalls"] for n in entry["names"] if "args" not in entry]
    if len(set(names)) != len(names):
        yield f"named twice: {sorted(n for n in set(names) if names.count(n) > 1)}"
    # Of what answers ENOSYS, libc knows that there is another way.
    return {n for entry in profile["syscalls"] for n in entry["names"]
            if entry["action"] == "SCMP_ACT_ALLOW" or entry.get("errnoRet") == errno.ENOSYS}


def wait_for(condition):
    for _ in range(200):
        if condition():
            return True
        time.sleep(0.1)
    return False


def calls_of_a_run(work):
    """Names of the system calls of a kvpaged that serves some requests and stops; None if it did not."""
    socket = os.path.join(work, "sock")
    environment = dict(os.environ, KVPAGED_SOCKET=socket, ASAN_OPTIONS="detect_leaks=0")
    summary = os.path.join(work, "calls")
    open(os.path.join(work, "empty.conf"), "w", encoding="utf-8").close()
    # -D: the process that is started here is kvpaged, and strace its grandchild.
    command = ["strace", "-D", "-c", "-f", "-o", summary, KVPAGED, "--config", work + "/empty.conf", "--socket", socket,
               "--arena-bytes", "64MiB"]
    daemon = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        put = ("put", "demo", "first", "--k", work + "/k.npy", "--model", "demo")
        served = wait_for(lambda: run(KVCTL, "health", env=environment).returncode == 0) and \
            run(KVCTL, *put, env=environment).returncode == 0
    finally:
        daemon.send_signal(signal.SIGTERM)
        stopped = daemon.wait(timeout=60) == 0
    if not (served and stopped and wait_for(lambda: os.path.exists(summary) and os.path.getsize(summary) > 0)):
        return None
    with open(summary, encoding="utf-8") as file:
        return set(re.findall(r"^\s*\d.*\s(\w+)$", file.read(), re.MULTILINE)) - {"total"}


def profile_allows_what_is_called():
    """the seccomp profile allows every system call of a short run"""
    if not shutil.which("strace") or run("strace", "-o", "/dev/null", "true").returncode != 0:
        raise tap.Skip("strace is not there or not allowed")
    allowed = yield from allowed_calls()
    with tempfile.TemporaryDirectory() as work:
        make_array(os.path.join(work, "k.npy"))
        called = calls_of_a_run(work)
    if not called or len(called) < 20:
        yield f"the run failed; calls seen: {called}"
        return
    for name in sorted(called - allowed):
        yield name


PROBES = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    libc.syscall(number, *arguments)
    return errno.errorcode.get(ctypes.get_errno(), "OK")
print(call(425, 1, None), call(272, 0x10000000), call(165, None, None, None, 0, None), call(435, None, 0),
      call(56, 0x10000000 | 17, None, None, None, None), call(101, 0, 0, None, None), call(41, 40, 1, 0))
"""
# io_uring_setup, unshare, mount, clone3, clone with a user namespace, ptrace, a socket of AF_VSOCK
PROBED = ["EFAULT", "EPERM", "EPERM", "ENOSYS", "EPERM", "EPERM", "EPERM"]


def profile_denies():
    """the seccomp profile allows io_uring and denies namespaces, mounts, ptrace and AF_VSOCK"""
    needs_seccomp()
    if os.uname().machine != "x86_64":
        raise tap.Skip("the numbers of the calls are those of x86-64")
    runner = os.path.join(HERE, "seccomp-exec.py")
    got = run("/usr/bin/python3", runner, PROFILE, "/usr/bin/python3", "-c", PROBES).stdout.split()
    without = run("/usr/bin/python3", "-c", PROBES).stdout.split()[:1]
    if got[:1] != (PROBED[:1] if without == PROBED[:1] else without) or got[1:] != PROBED[1:]:
        yield f"expected {PROBED}, got {got}; io_uring_setup without the profile: {without}"


# ---- Debian ----

def symbols_are_listed():
    """libkvclient0.symbols names what kvclient.h declares"""
    declared = set(re.findall(r"^KVC_API .*?[ *](kvc_\w+)\(", text_of("client/kvclient.h"), re.MULTILINE))
    listed = set(re.findall(r"^ (kvc_\w+)@", text_of("deploy/debian/libkvclient0.symbols"), re.MULTILINE))
    yield from (f'not listed: add the line " {name}@KVCLIENT_0.1 {VERSION}"' for name in sorted(declared - listed))
    yield from (f"listed and not declared: {name}" for name in sorted(listed - declared))


def changelog_has_the_version():
    """debian/changelog begins with this version"""
    if not text_of("deploy/debian/changelog").startswith(f"kvpaged ({VERSION}-"):
        yield text_of("deploy/debian/changelog").split("\n")[0]


if __name__ == "__main__":
    sys.exit(tap.run([image_is_locked_down, image_is_built_as_documented, image_packages_exist,
                      builder_packages_are_known, image_has_the_libraries, manifests_fit_together,
                      pods_are_locked_down, probes_ask_kvctl, configuration_is_valid, pod_runs,
                      profile_allows_what_is_called, profile_denies, symbols_are_listed, changelog_has_the_version]))
