"""Photos from each kind of source, and the errors for malicious and damaged ones."""

import dataclasses
import errno
import hashlib
import io
import json
import os
import shutil
import tarfile
import time
import types
import zipfile

import pytest
from tqdm import tqdm

from ml.data import collected, ingest, sources
from ml.data import download as fetch
from ml.data.locks import locked
from ml.data.splits import OWN_SPLITS
from ml.model.errors import PipelineError
from ml.model.photos import SUFFIXES
from ml.params import Ingest
from tests.conftest import RED, coloured, encode
from tests.helpers.http_server import file_server
from tests.helpers.model_server import Answer, ModelServer


@pytest.fixture
def go(tmp_path):
    def run(source, sha256=""):
        params = Ingest(source=str(source), sha256=sha256)
        return ingest.run(params, tmp_path / "raw", tmp_path / "cache")

    return run


@pytest.fixture
def archive(make_photos, tmp_path):
    def make(prefix="", extra=None):
        path = tmp_path / "photos.zip"
        root = make_photos(12)
        with zipfile.ZipFile(path, "w") as file:
            for photo in sorted(root.glob("*/*")):
                file.write(photo, f"{prefix}{photo.relative_to(root)}")
            for name, content in (extra or {}).items():
                file.writestr(name, content)
        return path

    return make


def test_a_photo_that_is_deleted_meanwhile_stops_it(make_photos, go, tmp_path, monkeypatch):
    """DVC would record the new list for the photos that still have it."""
    monkeypatch.chdir(tmp_path)
    content = encode(coloured(RED))
    digest = hashlib.sha256(content).hexdigest()
    photo = collected.CollectedPhoto("0" * 32, "2026-11-27", "red", digest, "a" * 64, "b" * 64)
    (collected.FOLDER / photo.path).parent.mkdir(parents=True)
    (collected.FOLDER / photo.path).write_bytes(content)
    collected.save([photo])
    root, add = make_photos(12), ingest._add_collected

    def delete(*arguments):
        added = add(*arguments)
        collected.save([])
        return added

    with monkeypatch.context() as patch:
        patch.setattr(ingest, "_add_collected", delete)
        with pytest.raises(PipelineError, match=r"collected\.csv changed while this stage ran"):
            go(root)
    assert not (tmp_path / "raw").exists()
    assert go(root).classes == {"blue": 12, "red": 12}


def test_a_folder(make_photos, go, tmp_path):
    root = make_photos(12)
    (root / "red" / "notes.txt").write_text("x")
    (root / "red" / "more").mkdir()
    (root / "red" / "more" / "000.png").write_bytes((root / "red" / "001.png").read_bytes())
    (root / ".hidden").mkdir()
    report = go(root)
    assert report.classes == {"blue": 12, "red": 13}
    assert report.skipped == {".txt": 1}
    assert (tmp_path / "raw" / "red" / "000-2.png").is_file()
    assert len(list((root / "red").glob("*.png"))) == 12  # the source is left as it was


def test_every_suffix_that_is_predicted_is_ingested(make_photos, go, archive):
    root = make_photos(12)
    for number, suffix in enumerate(sorted(SUFFIXES)):
        (root / "red" / f"more-{number}{suffix.upper()}").write_bytes(b"x")
    report = go(root)
    assert report.classes == {"blue": 12, "red": 12 + len(SUFFIXES)}
    assert {".jfif", ".jpe"} < SUFFIXES
    assert go(archive(extra={"red/a.jfif": b"x", "red/b.JPE": b"x"})).classes["red"] == 14 + len(SUFFIXES)


@pytest.mark.parametrize("form", ["JPEG", "AVIF"])
def test_a_photo_of_any_name_is_ingested(make_photos, go, archive, form):
    photo = encode(coloured(RED), form)
    (make_photos(12) / "red" / "IMG_0001").write_bytes(photo)
    assert go(archive(extra={"red/photo.heic.orig": photo, "red/notes": b"x"})).classes["red"] == 14


def test_names_that_macos_writes_without_a_flag(archive, go):
    path = archive()
    with zipfile.ZipFile(path, "a") as file:
        for number in range(2):
            file.writestr(f"H\u00fcndin/{number}.png", b"x")
    # zipfile sets the flag for names that aren't ASCII, at both places where a name is.
    data = path.read_bytes().replace(b"\0\x08\0\0", b"\0\0\0\0")
    path.write_bytes(data)
    with zipfile.ZipFile(path) as file:
        assert not any(info.flag_bits & 0x800 for info in file.infolist())
    assert go(path).classes == {"blue": 12, "red": 12, "H\u00fcndin": 2}


def test_names_in_other_code_pages_are_kept(archive, go):
    path = archive()
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("Hxndin/1.png", b"x")
    path.write_bytes(path.read_bytes().replace(b"Hxndin", b"H\x81ndin"))
    assert "H\u00fcndin" in go(path).classes


def test_folders_separated_by_backslashes(archive, go):
    path = archive()
    path.write_bytes(path.read_bytes().replace(b"red/", b"red\\").replace(b"blue/", b"blue\\"))
    assert go(path).classes == {"blue": 12, "red": 12}


@pytest.mark.parametrize("prefix", ["", "photos/"])
def test_a_zip_with_and_without_an_outer_folder(archive, go, prefix):
    report = go(archive(prefix, {"__MACOSX/red/._x.png": b"x", f"{prefix}red/readme.md": b"x"}))
    assert report.classes == {"blue": 12, "red": 12}
    assert report.skipped == {".png": 1, ".md": 1}


@pytest.mark.parametrize("name", ["../red/a.png", "/etc/a.png", "red/../../a.png", "..\\a.png"])
def test_zip_entries_outside_the_folder_are_rejected(archive, go, name, tmp_path):
    with pytest.raises(PipelineError, match="leaves the folder"):
        go(archive(extra={name: b"x"}))
    assert not (tmp_path / "raw").exists()


def test_links_and_huge_entries_in_a_zip_are_rejected(archive, go, monkeypatch):
    link = zipfile.ZipInfo("red/link.png")
    link.external_attr = 0o120777 << 16
    with pytest.raises(PipelineError, match="link"):
        go(archive(extra={link: b"/etc/passwd"}))
    monkeypatch.setattr(sources, "MAX_PHOTO_BYTES", 10_000)
    with pytest.raises(PipelineError, match="bytes"):
        go(archive(extra={"red/big.png": b"0" * 20_000}))
    assert go(archive(extra={"model.h5": b"0" * 20_000})).skipped == {".h5": 1}


def test_invalid_sources_are_named(tmp_path, make_photos, go, archive):
    with pytest.raises(PipelineError, match="no file or folder"):
        go(tmp_path / "nowhere")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(PipelineError, match="not a valid"):
        go(tmp_path / "text.zip")
    short = archive()
    short.write_bytes(short.read_bytes()[:3000])
    with pytest.raises(PipelineError, match="not a valid"):
        go(short)
    with pytest.raises(PipelineError, match=r"ingest\.sha256"):
        go(archive(), "0" * 64)
    root = make_photos(3, folder="other")
    (root / "green").mkdir()
    with pytest.raises(PipelineError, match="'green' is empty"):
        go(root)
    with pytest.raises(
        PipelineError, match=r"(?s)can't be recognised.*3 photos.*expected one folder of photos per class"
    ):
        go(root / "red")


def test_a_failed_ingest_keeps_the_previous_photos(make_photos, go, tmp_path):
    go(make_photos(12))
    with pytest.raises(PipelineError):
        go(tmp_path / "nowhere")
    assert len(list((tmp_path / "raw").glob("*/*"))) == 24


@pytest.fixture
def server(archive, monkeypatch):
    monkeypatch.setattr(fetch, "POLICY", dataclasses.replace(fetch.POLICY, backoff_s=0.01))
    with ModelServer().serving() as running:
        running.files["/photos.zip"] = archive().read_bytes()
        yield running


def test_a_download_is_resumed_and_kept(server, go):
    content = server.files["/photos.zip"]
    server.answers["/photos.zip"] = [Answer(stop=len(content) // 2), Answer()]
    for _ in range(2):  # the second time, it is there already
        report = go(f"{server.url}/photos.zip", hashlib.sha256(content).hexdigest())
        assert report.classes == {"blue": 12, "red": 12}
        assert [request.headers.get("range") for request in server.seen] == [
            None,
            f"bytes={len(content) // 2}-",
        ]


def test_the_progress_of_a_download_is_shown(server, go, monkeypatch, capsys):
    monkeypatch.setattr(fetch, "tqdm", lambda **options: tqdm(**options | {"mininterval": 0}))
    content = server.files["/photos.zip"]
    server.answers["/photos.zip"] = [Answer(stop=len(content) // 2), Answer()]
    go(f"{server.url}/photos.zip")
    assert "; trying again" in capsys.readouterr().err


def test_downloads_that_fail(server, go, monkeypatch):
    with pytest.raises(PipelineError, match=r"ingest\.sha256"):
        go(f"{server.url}/photos.zip", "0" * 64)
    # Only there: other threads of this process may sleep.
    never = vars(time) | {"sleep": lambda _: pytest.fail("a final failure was tried again")}
    monkeypatch.setattr("ml.model.download.time", types.SimpleNamespace(**never))
    server.answers["/none.zip"] = [Answer(404)]
    with pytest.raises(PipelineError, match="404"):
        go(f"{server.url}/none.zip")
    with pytest.raises(PipelineError, match="InvalidURL"):
        go("http://")


def test_hidden_folders_inside_a_class_and_other_files_are_skipped(make_photos, go):
    root = make_photos(12)
    for name in ("red/.thumbnails", "red/__MACOSX", "__MACOSX"):
        (root / name).mkdir()
        (root / name / "a.png").write_bytes((root / "red" / "001.png").read_bytes())
    (root / "readme.md").write_text("x")
    for name in ("@eaDir", "lost+found"):
        (root / name).mkdir()
    (root / "red" / "._000.png").write_bytes(b"x")
    report = go(root)
    assert report.classes == {"blue": 12, "red": 12}
    assert report.skipped == {".png": 4, ".md": 1}


def test_a_file_name_that_is_not_utf8(make_photos, go, tmp_path):
    root = make_photos(12)
    (root / "red" / "000.png").rename(os.fsdecode(os.fsencode(root / "red") + b"/caf\xe9.png"))
    go(root)
    assert (tmp_path / "raw" / "red" / "caf?.png").is_file()


def test_a_disk_error_is_named(make_photos, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(PipelineError, match="File exists"):
        ingest.run(Ingest(source=str(make_photos(12))), tmp_path / "file" / "raw")


def test_a_zip_whose_compressed_bytes_are_damaged(tmp_path, go):
    path = tmp_path / "damaged.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("blue/1.png", "red/1.png"):
            archive.writestr(name, bytes(range(256)) * 40)
    data = bytearray(path.read_bytes())
    start = 30 + len("blue/1.png")
    data[start : start + 20] = b"\xff" * 20
    path.write_bytes(data)
    with pytest.raises(PipelineError, match="not a valid"):
        go(path)


def test_an_encrypted_zip(archive, go):
    path = archive()
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(PipelineError, match="encrypted"):
        go(path)


def test_a_zip_larger_than_the_free_disk_is_rejected(archive, go, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(PipelineError, match="only 1,000 are free"):
        go(archive())


def test_an_empty_class_beside_a_nested_one_in_a_zip(tmp_path, go):
    path = tmp_path / "nested.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("blue")
        archive.mkdir("red")
        archive.writestr("red/more/1.png", b"x")
    with pytest.raises(PipelineError, match="blue/  0 photos"):
        go(path)


@pytest.mark.filterwarnings("ignore:Python 3.14 will, by default, filter:DeprecationWarning")  # 3.12 and 3.13
def test_oxford_pets_through_torchvision(make_photos, go, tmp_path, monkeypatch):
    """torchvision's class downloads and unpacks two small archives of the same layout."""
    from torchvision.datasets import OxfordIIITPet

    photos, site = make_photos(12), tmp_path / "site"
    site.mkdir()
    names = {f"{breed}_{n}": (breed == "Abyssinian") for breed in ("Abyssinian", "beagle") for n in range(12)}
    with tarfile.open(site / "images.tar.gz", "w:gz") as archive:
        for name, cat in names.items():
            number = name.rpartition("_")[2]
            archive.add(photos / ("red" if cat else "blue") / f"{int(number):03d}.png", f"images/{name}.jpg")
    with tarfile.open(site / "annotations.tar.gz", "w:gz") as archive:
        for split, odd in (("trainval", 0), ("test", 1)):
            lines = [f"{name} {1 if cat else 2} {1 if cat else 2} 1\n" for name, cat in names.items()]
            text = "".join(lines[odd::2]).encode()
            info = tarfile.TarInfo(f"annotations/{split}.txt")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))

    def unlimited(*_: object) -> None:
        raise AssertionError("torchvision's own download has no limits")

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", unlimited)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with file_server(site) as server:
        resources = [
            (f"{server.url}/{file}", hashlib.md5((site / file).read_bytes()).hexdigest())
            for file in ("images.tar.gz", "annotations.tar.gz")
        ]
        monkeypatch.setattr(OxfordIIITPet, "_RESOURCES", [(f"{resources[0][0]}.none", None)])
        with pytest.raises(PipelineError, match=r"download failed.*404"):
            go("oxford-pets")
        monkeypatch.setattr(OxfordIIITPet, "_RESOURCES", [(resources[0][0], "0" * 32)])
        with pytest.raises(PipelineError, match=r"download failed.*MD5"):
            go("oxford-pets")
        with monkeypatch.context() as full_disk:
            usage = shutil.disk_usage("/")._replace(free=1_000)
            full_disk.setattr(shutil, "disk_usage", lambda _: usage)
            with pytest.raises(PipelineError, match=r"download failed.*larger than"):
                go("oxford-pets")
        monkeypatch.setattr(OxfordIIITPet, "_RESOURCES", resources)
        report = go("oxford-pets")
    assert report.classes == dict.fromkeys((name.lower() for name in ("Cat", "Dog")), 12)
    red = (photos / "red" / "003.png").read_bytes()
    assert (tmp_path / "raw" / "cat" / "Abyssinian_3.jpg").read_bytes() == red


def test_classes_that_no_model_can_have_are_rejected(tmp_path, go):
    for name in ("red", "blue", "x" * 101):
        (tmp_path / "long" / name).mkdir(parents=True)
        (tmp_path / "long" / name / "1.png").write_bytes(b"x")
    with pytest.raises(PipelineError, match="at most 100 printable characters"):
        go(tmp_path / "long")
    (tmp_path / "table").mkdir()
    for number in range(4):
        (tmp_path / f"table/{number}.png").write_bytes(b"x")
    for name in (".hidden", "a\\b", "a/b", "lost+found", "a\vb"):
        labels = f"file,label\n0.png,cat\n1.png,cat\n2.png,{name}\n3.png,{name}\n"
        (tmp_path / "table/labels.csv").write_text(labels)
        with pytest.raises(
            PipelineError, match=r"table, classes in labels.csv: .* cannot be the name of a class"
        ):
            go(tmp_path / "table")
    (tmp_path / "table/labels.csv").write_text(labels.replace(name, "dog"), "utf-16")
    assert go(tmp_path / "table").classes == {"cat": 2, "dog": 2}
    for number in range(1001):
        (tmp_path / "many" / str(number)).mkdir(parents=True)
        (tmp_path / "many" / str(number) / "1.png").write_bytes(b"x")
    with pytest.raises(PipelineError, match="1,001 classes"):
        go(tmp_path / "many")


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz", "tar.xz"])
def test_a_tar_file(make_photos, go, tmp_path, suffix):
    root, path = make_photos(12), tmp_path / f"photos.{suffix}"
    with tarfile.open(
        path, f"w:{ {'tar': '', 'tar.gz': 'gz', 'tgz': 'gz', 'tar.xz': 'xz'}[suffix] }"
    ) as archive:
        archive.add(root, "photos")
    assert go(path).classes == {"blue": 12, "red": 12}
    assert (tmp_path / "raw/red/000.png").read_bytes() == (root / "red/000.png").read_bytes()
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(PipelineError, match="not a valid"):
        go(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_in_a_tar_are_rejected(go, tmp_path, kind):
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        link = tarfile.TarInfo("red/link.png")
        link.type, link.linkname = kind, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(PipelineError, match="is a link"):
        go(tmp_path / "photos.tar")


def test_the_names_in_zips_of_other_systems(make_photos, go, tmp_path):
    photo = (make_photos(1) / "red" / "000.png").read_bytes()

    class Written(zipfile.ZipInfo):  # as it stands in the file: UTF-8 without the flag that says so
        def _encodeFilenameFlags(self):
            return self.filename.encode(), 0

    with zipfile.ZipFile(tmp_path / "macos.zip", "w") as archive:
        for name in ("Ho\u0308hle", "Vögel"):  # macOS decomposes accents
            archive.writestr(Written(f"{name}/1.png"), photo)
    assert go(tmp_path / "macos.zip").classes == {"Höhle": 1, "Vögel": 1}
    with zipfile.ZipFile(tmp_path / "windows.zip", "w") as archive:
        for name in ("photos\\red\\1.png", "photos\\blue\\1.png"):
            archive.writestr(name, photo)
    assert go(tmp_path / "windows.zip").classes == {"blue": 1, "red": 1}
    with zipfile.ZipFile(tmp_path / "hostile.zip", "w") as archive:
        archive.writestr("..\\..\\1.png", photo)
    with pytest.raises(PipelineError, match="leaves the folder"):
        go(tmp_path / "hostile.zip")


def test_links_in_a_folder(make_photos, go, tmp_path):
    root, elsewhere = make_photos(3), make_photos(2, folder="elsewhere")
    (root / "green").symlink_to(elsewhere / "red")
    (root / "red" / "linked.png").symlink_to(elsewhere / "blue" / "000.png")
    (root / "red" / "passwd.png").symlink_to("/etc/passwd")
    (root / "red" / "round").symlink_to(root)
    for name, target in (("all", "."), ("best", "blue")):  # lead to what is there anyway
        (root / name).symlink_to(target)
    (root / "red" / "lost.png").symlink_to(root / "nowhere.png")
    (root / "red" / "loop.png").symlink_to(root / "red" / "loop.png")
    hashed = (elsewhere / "blue" / "001.png").rename(
        elsewhere / "0a1b2c3d"
    )  # as DVC and model hubs keep files
    (root / "blue" / "hashed.png").symlink_to(hashed)
    report = go(root)
    assert report.classes == {"blue": 4, "green": 2, "red": 4}
    assert report.skipped == {".png": 3}


def test_a_folder_that_cannot_be_listed_ends_the_ingest(make_photos, go, monkeypatch):
    root, scan, locked_away = make_photos(3), os.scandir, []
    for folder in (root / "red" / "more", root / "lost+found"):
        folder.mkdir()

    def scandir(path):
        if path in locked_away:
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    locked_away.append(str(root / "lost+found"))  # a disk's own folder, which only the system reads
    assert go(root).classes == {"blue": 3, "red": 3}
    locked_away.append(str(root / "red" / "more"))
    with pytest.raises(PipelineError, match=r"Permission denied: .*more"):
        go(root)


@pytest.mark.parametrize("name", ["large.jpg", "large.mkv"])
def test_a_photo_of_a_folder_is_no_larger_than_one_of_an_archive(make_photos, go, name):
    root = make_photos(3)
    with (root / "red" / name).open("wb") as file:
        file.truncate((100 << 20) + 1)
    if name == "large.mkv":
        assert go(root).skipped == {".mkv": 1}
    else:
        with pytest.raises(PipelineError, match=r"an entry has 104,857,601 bytes: 'red/large.jpg'"):
            go(root)


def test_two_at_once(make_photos, go, tmp_path):
    root = make_photos(3)
    with locked(tmp_path / "raw"), pytest.raises(PipelineError, match=r"another process is writing .*raw"):
        go(root)
    assert go(root).classes == {"blue": 3, "red": 3}
    assert not list((tmp_path / "raw").glob(".*"))


def test_a_class_of_photos_that_cannot_be_read_is_not_called_empty(make_photos, go):
    root = make_photos(3)
    (root / "green").mkdir()
    with pytest.raises(PipelineError, match="class 'green' is empty: add photos"):
        go(root)
    for name in ("1.TIF", "2.tif", "notes"):
        (root / "green" / name).write_bytes(b"II*\0")
    with pytest.raises(
        PipelineError,
        match=r"'green' has no photo, only other files \(2 .tif, 1 without a suffix\): add photos",
    ):
        go(root)


def test_tables_of_labels_are_read_before_larger_ones(archive, go, monkeypatch):
    monkeypatch.setattr(sources, "_MAX_TABLE_BYTES", 1000)
    names = [f"{n}.png" for n in range(6)]
    photo = encode(coloured(RED), "PNG")
    extra = dict.fromkeys(names, photo)
    extra |= {"boxes.csv": b"file,x\n" + b"y,1\n" * 200, "captions.csv": b"file,x\n" + b"y,1\n" * 220}
    extra["labels.csv"] = "\n".join(
        ["file,label", *(f"{name},{'ab'[n % 2]}" for n, name in enumerate(names))]
    )
    path = archive()
    with zipfile.ZipFile(path, "w") as only:
        for name, content in extra.items():
            only.writestr(name, content)
    assert go(path).classes == {"a": 3, "b": 3}


def test_a_folder_of_annotations_is_no_class_of_a_split(make_photos, go, tmp_path):
    root = make_photos(4)
    for split in ("train", "test"):
        shutil.copytree(root, tmp_path / "own" / split)
    (tmp_path / "own/train/annotations").mkdir()
    (tmp_path / "own/train/annotations/1.xml").write_text("x")
    assert go(tmp_path / "own").classes == {"blue": 8, "red": 8}
    (tmp_path / "own/train/green").mkdir()
    (tmp_path / "own/train/green/1.tif").write_bytes(b"II*\0")
    with pytest.raises(PipelineError, match="class 'green' has no photo"):
        go(tmp_path / "own")


def test_files_of_the_same_name_get_numbers(make_photos, go, tmp_path):
    root = make_photos(1)
    photo = (root / "red" / "000.png").read_bytes()
    for number in range(3):
        (root / "red" / str(number)).mkdir()
        (root / "red" / str(number) / "image.png").write_bytes(photo)
    (root / "red" / "image-2.png").write_bytes(photo)
    assert go(root).classes == {"blue": 1, "red": 5}
    names = {path.name for path in (tmp_path / "raw" / "red").iterdir()}
    assert names == {"000.png", "image.png", "image-2.png", "image-3.png", "image-4.png"}


def test_an_archive_of_archives_is_refused(archive, go, tmp_path):
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as outer:
        outer.write(archive(), "train.zip")
    with pytest.raises(PipelineError, match=r"no photos, but an archive, train\.zip: unpack it"):
        go(tmp_path / "outer.zip")


def test_the_split_of_the_owner_is_kept(make_photos, go, tmp_path):
    root = make_photos(4)
    (tmp_path / "own").mkdir()
    for split in ("train", "test"):
        shutil.copytree(root, tmp_path / "own" / split)
    report = go(tmp_path / "own")
    assert (report.layout, report.classes) == ("classes in test, train", {"blue": 8, "red": 8})
    splits = json.loads((tmp_path / "raw" / OWN_SPLITS).read_text())
    assert splits["red/000.png"] == "test"
    assert splits["red/000-2.png"] == "train"
    assert len(splits) == 16
