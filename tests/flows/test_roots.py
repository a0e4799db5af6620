from pathlib import Path

import pytest

from flows.roots import check_allowed


def test_an_output_below_a_root_is_allowed(tmp_path: Path) -> None:
    check_allowed(str(tmp_path / "films" / "night"), [str(tmp_path / "films")])
    check_allowed(f"file://{tmp_path}/films/night", [str(tmp_path / "films")])
    check_allowed("s3://bucket/films/night", ["/srv/films", "s3://bucket/films"])


@pytest.mark.parametrize(
    "url",
    [
        "{root}",
        "{root}/../elsewhere",
        "{root}-and-more/night",
        "{root}/link/night",
        "/etc",
        "s3://bucket/films",
        "s3://bucket/films/../x",
        "s3://bucket/films-too/x",
        "s3://other/films/x",
        "simplecache::s3://bucket/films/x",
        "memory://films/x",
        "nowhere://x",
        "s3://key:secret@bucket/films/x",
    ],
)
def test_an_output_elsewhere_is_refused(url: str, tmp_path: Path) -> None:
    root = tmp_path / "films"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="output"):
        check_allowed(url.format(root=root), [str(root), "s3://bucket/films"])
