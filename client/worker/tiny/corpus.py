# SPDX-License-Identifier: Apache-2.0
"""Debian packages -> clean English documents.

`fetch` downloads the packages of SOURCES with apt-get and unpacks them with
dpkg below the build folder; nothing is installed. `build` turns them into
documents (one chapter, or one page of documentation), drops paragraphs seen
before, and writes train.txt and valid.txt, documents separated by a 0x1c
byte, and manifest.json (package, version, licence, documents, bytes, sha256).
A document is in the validation part if the hash of its text says so, so the
split stays the same whatever the order of the sources. All output is ASCII.
"""
import argparse
import bz2
import glob
import gzip
import hashlib
import html
import html.parser
import json
import lzma
import os
import re
import struct
import subprocess
import sys
import unicodedata
import zlib

SEPARATOR = "\x1c"     # between documents
VALID_OF_1000 = 25
DOCUMENT_MIN_CHARS = 400

PUNCTUATION = str.maketrans({
    "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-",
    "\u2014": "--", "\u2026": "...", "\u00a0": " ", "\u00e6": "ae", "\u00c6": "Ae",
    "\u0153": "oe", "_": "",
})


def ascii_text(text):
    text = unicodedata.normalize("NFKD", text.translate(PUNCTUATION))
    return text.encode("ascii", "ignore").decode()


def paragraphs(text):
    """Undo hard line breaks: paragraphs are what blank lines separate."""
    for part in re.split(r"\n[ \t]*\n", text.replace("\r", "")):
        line = re.sub(r"\s+", " ", part).strip()
        if line:
            yield line


def is_prose(line):
    letters = sum(c.isalpha() for c in line)
    return letters >= 0.6 * len(line) and "| " not in line


def split_chapters(lines):
    """Cut a list of paragraphs before each chapter heading; headings are dropped."""
    heading = re.compile(r"^(chapter|volume|book|part|prop\.|obs\.)\b.{0,20}$|^[ivxl]+\.?$", re.I)
    chapter = []
    for line in lines:
        if heading.match(line):
            yield chapter
            chapter = []
        else:
            chapter.append(line)
    yield chapter


class PageText(html.parser.HTMLParser):
    """Visible text of a page; code blocks, menus, tables and scripts are left out."""
    HIDDEN = {"script", "style", "pre", "nav", "title", "head", "table", "blockquote"}
    BREAKS = {"p", "br", "div", "li", "ul", "ol", "h1", "h2", "h3", "h4", "tr", "td", "dt", "dd"}

    def __init__(self, hidden=HIDDEN):
        super().__init__()
        self.hidden, self.depth, self.out = hidden, 0, []

    def handle_starttag(self, tag, attrs):
        if tag in self.hidden:
            self.depth += 1
        elif tag in self.BREAKS:
            self.out.append("\n\n")

    def handle_endtag(self, tag):
        if tag in self.hidden:
            self.depth = max(0, self.depth - 1)
        elif tag in self.BREAKS:
            self.out.append("\n\n")

    def handle_data(self, data):
        if not self.depth:
            self.out.append(data)


def page_text(markup, hidden=PageText.HIDDEN):
    parser = PageText(hidden)
    parser.feed(markup)
    return "".join(parser.out)


def read_text(path):
    opener = gzip.open if path.endswith((".gz", ".dz")) else open
    with opener(path, "rb") as file:
        return file.read().decode("utf-8", "replace")


def r_lazyload_strings(path):
    """The character vectors of an R lazy-load file: length, then a compressed XDR stream, each."""
    data, at = open(path, "rb").read(), 0
    while at + 5 < len(data):
        kind = data[at + 4:at + 5]
        if kind == b"2":
            unpack, start = bz2.BZ2Decompressor(), at + 5
        elif kind in (b"3", b"Z"):
            unpack, start = lzma.LZMADecompressor(), at + 5
        else:
            unpack, start = zlib.decompressobj(), at + 4
        stream = unpack.decompress(data[start:])
        at = len(data) - len(unpack.unused_data)
        # Header: "X\n", three versions, length and name of the encoding; then flags, count.
        pos = 2 + 12
        pos += 4 + struct.unpack_from(">I", stream, pos)[0]
        flags, count = struct.unpack_from(">II", stream, pos)
        if flags & 0xff != 16:
            continue
        pos, lines = pos + 8, []
        for _ in range(count):
            length = struct.unpack_from(">i", stream, pos + 4)[0]
            lines.append(stream[pos + 8:pos + 8 + max(length, 0)].decode("utf-8", "replace"))
            pos += 8 + max(length, 0)
        yield "\n".join(lines)


def austen(root):
    for novel in r_lazyload_strings(root + "/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"):
        yield from split_chapters(paragraphs(novel))


def bible(root):
    """SWORD zText module: .bzs indexes zlib blocks of .bzz, one block several chapters of OSIS."""
    base = glob.glob(root + "/usr/share/sword/modules/texts/ztext/*/")[0]
    for part in ("ot", "nt"):
        index, blocks = (open(base + part + ext, "rb").read() for ext in (".bzs", ".bzz"))
        text = ""
        for start, size, _ in struct.iter_unpack("<III", index):
            text += zlib.decompress(blocks[start:start + size]).decode("utf-8", "replace")
        text = re.sub(r"<note\b.*?</note>|<title\b.*?</title>", " ", text, flags=re.S)
        text = re.sub(r"<div\b[^>]*type=\"x-p\"[^>]*>|<lg\b[^>]*>", "\n\n", text)
        for chapter in re.split(r"<chapter\b[^>]*\bsID=[^>]*>", text)[1:]:
            lines = list(paragraphs(html.unescape(re.sub(r"<[^>]+>", "", chapter))))
            yield [re.sub(r" ([,.;:?!])", r"\1", line) for line in lines]


def plain(*patterns):
    def read(root):
        for pattern in patterns:
            for path in sorted(glob.glob(root + pattern)):
                yield from split_chapters(paragraphs(read_text(path)))
    return read


def devils_dictionary(root):
    text = read_text(root + "/usr/share/dictd/devil.dict.dz")
    lines = list(paragraphs(text[text.index("ABASEMENT"):]))
    for i in range(0, len(lines), 60):
        yield lines[i:i + 60]


def hacker_book(root):
    hidden = PageText.HIDDEN - {"table", "blockquote"}
    for path in sorted(glob.glob(root + "/usr/share/doc/cfi-en/html/*.htm")):
        yield list(paragraphs(page_text(read_text(path), hidden)))


def rust_books(root):
    base = root + "/usr/share/doc/rust-doc/html/"
    # Not embedded-book: its prose is CC-BY-SA.
    for book in ("book/ch*", "book/appendix*", "nomicon/*", "edition-guide/*", "rustc/**/*",
                 "rustdoc/**/*"):
        for path in sorted(glob.glob(base + book + ".html", recursive=True)):
            if os.path.basename(path) in ("print.html", "toc.html", "SUMMARY.html"):
                continue
            main = re.search(r"<main>(.*)</main>", read_text(path), re.S)
            if main:
                yield list(paragraphs(page_text(main.group(1))))


OPTICKS = "/usr/share/go-*/src/testdata/Isaac.Newton-Opticks.txt"
SAWYER = "/usr/share/gocode/src/github.com/klauspost/compress/testdata/Mark.Twain-Tom.Sawyer.txt"
DHAMMAPADA = "/usr/share/display-dhammapada/dhammapada-"

# (package, what is taken, licence of what is taken, reader)
SOURCES = (
    ("r-cran-janeaustenr", "Jane Austen, the six novels",
     "public domain (package: MIT)", austen),
    ("sword-text-web", "World English Bible",
     "public domain", bible),
    ("golang-github-klauspost-compress-dev", "Mark Twain, The Adventures of Tom Sawyer",
     "public domain (package: BSD-3-Clause, MIT)", plain(SAWYER)),
    ("golang-1.19-src", "Isaac Newton, Opticks",
     "public domain (package: BSD-3-Clause)", plain(OPTICKS)),
    ("dict-devil", "Ambrose Bierce, The Devil's Dictionary",
     "public domain", devils_dictionary),
    ("cfi-en", "Linus Walleij, Copyright does not exist",
     "public domain", hacker_book),
    ("display-dhammapada", "The Dhammapada, two translations",
     "public domain (package: GPL-3+, none of its code is taken)",
     plain(DHAMMAPADA + "english-transl.txt", DHAMMAPADA + "alternate.txt")),
    ("rust-doc", "The Rust Programming Language and the compiler's other books, prose only",
     "MIT or Apache-2.0", rust_books),
)


def fetch(build):
    debs = os.path.join(build, "debs")
    os.makedirs(debs, exist_ok=True)
    os.makedirs(f"{build}/unpacked", exist_ok=True)
    for package, *_ in SOURCES:
        if not glob.glob(f"{debs}/{package}_*.deb"):
            print(f"corpus: downloading {package}", flush=True)
            sandbox = [] if os.getuid() else ["-o", "APT::Sandbox::User=root"]
            done = subprocess.run(["apt-get", *sandbox, "-q", "download", package], cwd=debs)
            if done.returncode:
                sys.exit(f"corpus: cannot download {package}; is the package list there "
                         "(apt-get update)?")
        root = f"{build}/unpacked/{package}"
        if not os.path.isdir(root):
            deb = glob.glob(f"{debs}/{package}_*.deb")[0]
            subprocess.run(["dpkg", "-x", deb, root + ".part"], check=True)
            os.rename(root + ".part", root)


def package_version(build, package):
    deb = glob.glob(f"{build}/debs/{package}_*.deb")[0]
    return subprocess.run(["dpkg-deb", "-f", deb, "Version"], check=True, text=True,
                          capture_output=True).stdout.strip()


def documents(read, root, seen):
    """Cleaned documents of one source; `seen` holds the hashes of all paragraphs so far."""
    for lines in read(root):
        kept = []
        for line in map(ascii_text, lines):
            line = re.sub(r"\s+", " ", line).strip()
            key = hashlib.sha256(line.encode()).digest()
            if not line or not is_prose(line) or (len(line) > 40 and key in seen):
                continue
            seen.add(key)
            kept.append(line)
        text = "\n\n".join(kept)
        if len(text) >= DOCUMENT_MIN_CHARS:
            yield text


def build_corpus(build):
    parts, manifest, seen = {"train": [], "valid": []}, [], set()
    for package, title, licence, read in SOURCES:
        docs = list(documents(read, f"{build}/unpacked/{package}", seen))
        if not docs:
            sys.exit(f"corpus: no text found in {package}")
        size = sum(map(len, docs))
        for text in docs:
            digest = hashlib.sha256(text.encode()).digest()
            draw = int.from_bytes(digest[:4], "big") % 1000
            parts["valid" if draw < VALID_OF_1000 else "train"].append(text)
        manifest.append({"package": package, "version": package_version(build, package),
                         "title": title, "licence": licence, "documents": len(docs),
                         "bytes": size})
        print(f"corpus: {package:38s} {len(docs):5d} documents {size:9d} bytes", flush=True)
    result = {"sources": manifest}
    for name, docs in parts.items():
        data = SEPARATOR.join(docs).encode()
        with open(f"{build}/{name}.txt", "wb") as file:
            file.write(data)
        result[name] = {"documents": len(docs), "bytes": len(data),
                        "sha256": hashlib.sha256(data).hexdigest()}
        print(f"corpus: {name}: {len(docs)} documents, {len(data)} bytes", flush=True)
    with open(f"{build}/manifest.json", "w") as file:
        json.dump(result, file, indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", required=True, help="build folder")
    args = parser.parse_args()
    fetch(args.build)
    build_corpus(args.build)


if __name__ == "__main__":
    main()
