#!/usr/bin/env python3
"""Restores from a repository of surus without surus. It follows docs/format/repository.md and nothing else.

Needs Python 3.8 and, for zstd, the module zstandard or the command zstd. lz4, keys and checksums need nothing more; with
the modules lz4, cryptography and blake3 they are faster, and BLAKE3 hashes are verified only with the last one. The
repository is a folder: copy a bucket's objects into one first.

  restore.py REPO list
  restore.py REPO backup LABEL DATADIR [--tablespace OID=DIR]...
  restore.py REPO wal FILE DESTINATION          one file, e.g. as restore_command: restore.py REPO wal %f %p
  restore.py REPO wal-all DIR                   every file of the archive

  --cluster N      the system identifier, when the repository holds several
  --key FILE       a file with the repository's key, when it is encrypted
  --check          also verify the CRC-32C of each chunk and file (slow)
"""

import argparse, base64, ctypes, ctypes.util, hashlib, hmac, json, os, shutil, struct, subprocess, sys

MAGIC = b"surus\0\x01\n"
BLOCK = 8192
BUNDLE, WAL, MANIFEST = 1, 2, 3
CHECK = False


class Damaged(Exception):
    pass


def need(truth, text):
    if not truth:
        raise Damaged(text)


# Compression.


def zstd(data, size):
    try:
        import zstandard
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
    except ImportError:
        pass
    program = shutil.which("zstd") or sys.exit("this needs the Python module zstandard or the command zstd")
    return subprocess.run([program, "-dcq"], input=data, stdout=subprocess.PIPE, check=True).stdout


def lz4_block(data, size):
    try:
        import lz4.block
        return lz4.block.decompress(data, uncompressed_size=size)
    except ImportError:
        pass
    out, at = bytearray(), 0

    def more(length, at):
        while length >= 15:
            length += data[at]
            at += 1
            if data[at - 1] != 255:
                break
        return length, at

    while at < len(data):
        token = data[at]
        literals, at = more(token >> 4, at + 1)
        out += data[at : at + literals]
        at += literals
        if at >= len(data):
            break
        offset = data[at] | data[at + 1] << 8
        length, at = more(token & 15, at + 2)
        for _ in range(length + 4):
            out.append(out[-offset])
    return bytes(out)


def unpack(codec, data, size):
    raw = {0: lambda: data, 1: lambda: zstd(data, size), 2: lambda: lz4_block(data, size)}[codec]()
    need(len(raw) == size, "a chunk has not the size that its header says")
    return raw


# Encryption.


def hkdf(key, salt, info):
    return hmac.new(hmac.new(salt, key, hashlib.sha256).digest(), info + b"\x01", hashlib.sha256).digest()


def open_gcm(key, nonce, sealed, associated):
    """AES-256-GCM; the tag is the last 16 bytes."""
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        try:
            return AESGCM(key).decrypt(nonce, sealed, associated)
        except InvalidTag:
            raise Damaged("a seal does not fit: another key, or damage")
    except ImportError:
        pass
    crypto = ctypes.CDLL(ctypes.util.find_library("crypto") or "libcrypto.so.3")
    for name in ("EVP_CIPHER_CTX_new", "EVP_aes_256_gcm"):
        getattr(crypto, name).restype = ctypes.c_void_p
    context = ctypes.c_void_p(crypto.EVP_CIPHER_CTX_new())
    out, length = ctypes.create_string_buffer(len(sealed) or 1), ctypes.c_int()
    body, tag = sealed[:-16], sealed[-16:]
    crypto.EVP_DecryptInit_ex(context, ctypes.c_void_p(crypto.EVP_aes_256_gcm()), None, key, nonce)
    crypto.EVP_DecryptUpdate(context, None, ctypes.byref(length), associated, len(associated))
    crypto.EVP_DecryptUpdate(context, out, ctypes.byref(length), body, len(body))
    crypto.EVP_CIPHER_CTX_ctrl(context, 0x11, 16, tag)
    good = crypto.EVP_DecryptFinal_ex(context, ctypes.create_string_buffer(16), ctypes.byref(length))
    crypto.EVP_CIPHER_CTX_free(context)
    need(good == 1, "a seal does not fit: another key, or damage")
    return out.raw[: len(body)]


def user_key(text):
    """32 random bytes in hexadecimal or base64, or else a passphrase: (bytes, None) or (None, bytes)."""
    text = text.strip()
    try:
        if len(text) == 64:
            return bytes.fromhex(text), None
        if len(text) in (43, 44):
            return base64.b64decode(text.rstrip("=").replace("-", "+").replace("_", "/") + "="), None
    except ValueError:
        pass
    return None, text.encode()


def data_keys(repo, key_file):
    keys, user = {}, user_key(open(key_file).read())
    folder = os.path.join(repo, "keys")
    for name in sorted(os.listdir(folder)):
        if name.startswith("."):
            continue
        note = json.load(open(os.path.join(folder, name)))
        associated = ("surus key 1\n%s\n%d" % (note["id"], note["number"])).encode()
        for wrap in note["wraps"]:
            salt = bytes.fromhex(wrap["salt"])
            if wrap["method"] == "hkdf-sha256" and user[0]:
                wrapping = hkdf(user[0], salt, b"surus wrap 1")
            elif wrap["method"] == "pbkdf2-hmac-sha256" and user[1]:
                wrapping = hashlib.pbkdf2_hmac("sha256", user[1], salt, wrap["iterations"])
            else:
                continue
            try:
                sealed, nonce = bytes.fromhex(wrap["sealed"]), bytes.fromhex(wrap["nonce"])
                keys[bytes.fromhex(note["id"])] = open_gcm(wrapping, nonce, sealed, associated)
            except Damaged:
                pass
    return keys or sys.exit("the key opens none of the repository's data keys")


# Hashes.


def blake3(parts):
    """None without the module."""
    try:
        import blake3 as module
    except ImportError:
        return None
    hasher = module.blake3()
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def chunk_hash(raw):
    return blake3(blake3([raw[at : at + BLOCK]]) or b"" for at in range(0, len(raw), BLOCK))


CRC_TABLE = []


def crc32c(data, crc):
    if not CRC_TABLE:
        for number in range(256):
            for _ in range(8):
                number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
            CRC_TABLE.append(number)
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


# Objects.


class Object:
    """One object of the repository, open for reading."""

    def __init__(self, repo, name, kind, keys):
        self.name = name
        self.file = open(os.path.join(repo, name), "rb")
        self.header = self.file.read(48)
        need(len(self.header) == 48 and self.header[:8] == MAGIC, name + " is no object of this format")
        need(self.header[8] == kind, name + " is an object of another kind")
        self.key = None
        if self.header[9]:
            data_key = keys.get(self.header[16:32]) or sys.exit(name + " is encrypted; give its key with --key")
            self.key = hkdf(data_key, self.header[32:48], b"surus object 1")

    def chunk(self, offset):
        """(content, hash, is it the end, header, stored bytes) of the chunk there."""
        self.file.seek(offset)
        header = self.file.read(52)
        need(len(header) == 52, self.name + " ends too early")
        length, raw_length, codec, flags, _, number = struct.unpack("<IIBBHI", header[:16])
        data = self.file.read(length)
        need(len(data) == length, self.name + " ends too early")
        if self.key:
            nonce = bytes(8) + struct.pack(">I", number)
            data = open_gcm(self.key, nonce, data, self.header + header + self.name.encode())
        elif CHECK:
            need(struct.pack("<I", crc32c(data, 0)) == header[48:], "a chunk of %s has another CRC-32C" % self.name)
        raw = unpack(codec, data, raw_length)
        if flags & 1:
            return raw, raw if self.key else header[16:48], True, header, 52 + length
        found = chunk_hash(raw)
        written = found if self.key else header[16:48]
        need(found is None or found == written, "a chunk of %s has another hash" % self.name)
        return raw, written, False, header, 52 + length

    def chunks(self):
        """The content of every chunk; the end is verified."""
        offset, number, seen = 48, 0, [self.header]
        while True:
            raw, found, last, header, stored = self.chunk(offset)
            need(struct.unpack("<I", header[12:16])[0] == number, self.name + " has its chunks in another order")
            offset, number = offset + stored, number + 1
            if last:
                whole = None if None in seen else blake3(seen)
                need(whole is None or whole == found, self.name + " is not what was written")
                need(not self.file.read(1), self.name + " goes on after its end")
                return
            seen += [header, found]
            yield raw


def read(repo, name, kind, keys):
    return b"".join(Object(repo, name, kind, keys).chunks())


# Backups.


class Manifest:
    def __init__(self, repo, cluster, label, keys):
        self.directories, self.files, self.chunks = [], [], []
        for line in read(repo, "%s/manifest/%s" % (cluster, label), MANIFEST, keys).splitlines():
            (kind, value), = json.loads(line).items()
            if kind == "about":
                self.about = value
            elif kind == "end":
                counts = (len(self.directories), len(self.files), len(self.chunks))
                need(counts == (value["directories"], value["files"], value["chunks"]), "the manifest is not whole")
                return
            else:
                {"directory": self.directories, "file": self.files, "chunk": self.chunks}[kind].append(value)
        raise Damaged("the manifest has no end")


class Chain:
    """A backup and those that it builds on, the full one first."""

    def __init__(self, repo, cluster, label, keys):
        self.repo, self.cluster, self.keys = repo, cluster, keys
        self.backups, self.bundles, self.cache = [], {}, {}
        while label:
            self.backups.insert(0, Manifest(repo, cluster, label, keys))
            label = self.backups[0].about["parent"]
        below = {}
        for number, manifest in enumerate(self.backups):
            full, here = manifest.about["kind"] == "full", {}
            for file in manifest.files:
                # For each block of 8 KiB: (backup, chunk, number in the chunk).
                blocks = [None] * -(-file["size"] // BLOCK)
                if not full:
                    old = below.get(file["path"], [])
                    blocks[: len(old)] = old[: len(blocks)]
                for block, count, chunk, at in file.get("runs", []):
                    for step in range(count):
                        blocks[block + step] = (number, chunk, at + step)
                need(None not in blocks, "no backup has all of " + file["path"])
                here[file["path"]] = blocks
            below = here
        self.blocks = below

    def chunk(self, backup, number):
        if (backup, number) not in self.cache:
            if len(self.cache) > 200:
                self.cache.clear()
            bundle, index, offset, _, raw_length, written = self.backups[backup].chunks[number]
            label = self.backups[backup].about["label"]
            name = "%s/data/%s/b%06d" % (self.cluster, label, bundle)
            if name not in self.bundles:
                self.bundles[name] = Object(self.repo, name, BUNDLE, self.keys)
            raw, found, last, header, _ = self.bundles[name].chunk(offset)
            here = struct.unpack("<I", header[12:16])[0]
            need(not last and here == index and len(raw) == raw_length, "%s has another chunk there" % name)
            need(found is None or found.hex() == written, "a chunk of %s is not the manifest's" % name)
            self.cache[backup, number] = raw
        return self.cache[backup, number]

    def write(self, file, path):
        crc, left = 0, file["size"]
        with open(path, "xb") as out:
            for backup, chunk, at in self.blocks[file["path"]]:
                block = self.chunk(backup, chunk)[at * BLOCK : at * BLOCK + min(BLOCK, left)]
                left -= len(block)
                crc = crc32c(block, crc) if CHECK else crc
                out.write(block)
        need(left == 0, file["path"] + " has another size")
        need(not CHECK or file["crc32c"] in (None, crc), file["path"] + " has another CRC-32C")
        os.chmod(path, file["mode"])
        os.utime(path, (file["modified_ms"] / 1000,) * 2)


def inside(path):
    need(path and not any(part in ("", ".", "..") for part in path.split("/")), "a path leads out: " + path)
    return path


def restore(chain, data, spaces):
    newest = chain.backups[-1]
    if os.path.isdir(data) and os.listdir(data):
        sys.exit(data + " is not empty")
    homeless = [space for space in newest.about["tablespaces"] if str(space["oid"]) not in spaces]
    if homeless:
        sys.exit("say where its tablespaces go: " + " ".join("--tablespace %(oid)d=DIR (was %(path)s)" % s for s in homeless))
    os.makedirs(data, mode=0o700, exist_ok=True)
    os.chmod(data, 0o700)
    os.makedirs(os.path.join(data, "pg_tblspc"), mode=0o700, exist_ok=True)
    for oid, place in spaces.items():
        os.makedirs(place, mode=0o700, exist_ok=True)
        if os.listdir(place):
            sys.exit(place + " is not empty")
        os.symlink(os.path.abspath(place), os.path.join(data, "pg_tblspc", oid))
    for path, mode in newest.directories:
        os.makedirs(os.path.join(data, inside(path)), exist_ok=True)
        os.chmod(os.path.join(data, path), mode)
    # Without the control file no server starts in what is not complete: it comes last.
    control = "global/pg_control"
    for file in sorted(newest.files, key=lambda file: file["path"] == control):
        path = os.path.join(data, inside(file["path"]))
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        if file["path"] == control:
            with open(os.path.join(data, "backup_label"), "x") as label:
                label.write(newest.about["backup_label"])
            os.sync()
        chain.write(file, path)
    os.sync()
    print("restored %s, started at %s, to %s" % (newest.about["label"], newest.about["started_at"], data))
    print("next: set restore_command, create the empty file recovery.signal in it, start the server as its own user")


def wal_path(repo, cluster, name):
    if name.endswith(".history"):
        return "%s/wal/history/%s" % (cluster, name)
    return "%s/wal/%s/%s/%s" % (cluster, name[:8], name[8:16], name)


def get_wal(repo, cluster, name, destination, keys):
    content = read(repo, wal_path(repo, cluster, name), WAL, keys)
    with open(destination + ".new", "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    os.rename(destination + ".new", destination)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("repo")
    options.add_argument("verb", choices=["list", "backup", "wal", "wal-all"])
    options.add_argument("words", nargs="*")
    options.add_argument("--cluster")
    options.add_argument("--key")
    options.add_argument("--check", action="store_true")
    options.add_argument("--tablespace", action="append", default=[])
    args = options.parse_intermixed_args()
    global CHECK
    CHECK = args.check
    mark = json.load(open(os.path.join(args.repo, "surus-repository.json")))
    need(mark["format"] == 1, "the repository has a newer format")
    if mark["encrypted"] and not args.key:
        sys.exit("the repository is encrypted; give its key with --key FILE")
    keys = data_keys(args.repo, args.key) if mark["encrypted"] else {}
    all_clusters = [name[:-5] for name in os.listdir(os.path.join(args.repo, "clusters")) if name.endswith(".json")]
    if not args.cluster and len(all_clusters) != 1:
        sys.exit("name one of the clusters with --cluster: " + " ".join(all_clusters))
    cluster = args.cluster or all_clusters[0]
    if args.verb == "list":
        folder = os.path.join(args.repo, cluster, "manifest")
        for label in sorted(os.listdir(folder) if os.path.isdir(folder) else []):
            if not label.startswith("."):
                about = Manifest(args.repo, cluster, label, keys).about
                print(label, about["kind"], about["size"], about["start_lsn"], about["stop_lsn"], about["parent"] or "")
    elif args.verb == "backup":
        label, data = args.words
        spaces = dict(space.split("=", 1) for space in args.tablespace)
        restore(Chain(args.repo, cluster, label, keys), data, spaces)
    elif args.verb == "wal":
        name, destination = args.words
        if not os.path.exists(os.path.join(args.repo, wal_path(args.repo, cluster, name))):
            # Only a repository that is there can say that a file is not.
            sys.exit(1)
        get_wal(args.repo, cluster, name, destination, keys)
    else:
        (target,) = args.words
        os.makedirs(target, exist_ok=True)
        for folder, _, names in os.walk(os.path.join(args.repo, cluster, "wal")):
            for name in names:
                if not name.startswith("."):
                    get_wal(args.repo, cluster, name, os.path.join(target, name), keys)


if __name__ == "__main__":
    try:
        main()
    except (Damaged, OSError, ValueError, subprocess.CalledProcessError) as error:
        # More than 125, so that a server that asked for WAL stops: this is no proof of absence.
        print("restore.py: %s" % error, file=sys.stderr)
        sys.exit(126)
