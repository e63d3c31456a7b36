"""The model and the plots of docs/scaling.md. tests/docs/test_scaling_page.py compares the model with counted pods."""

import itertools
from dataclasses import fields, replace
from xml.etree import ElementTree as ET

import pytest

from bench.scaling import plots
from bench.scaling.__main__ import RESULTS
from bench.scaling.measured import kept, read
from bench.scaling.model import Cost, Limits, Load, Pod, breaks_at, cost_of_pod, demands, first_to_break
from bench.scaling.page import rendered
from bench.scaling.pictures import pictures

MEASURED = read(RESULTS)
LARGEST = 10_000
"""Bytes of a picture."""


def asked(load, limits=None):
    return demands(load, MEASURED.costs, MEASURED.milliseconds, limits or Limits())


def test_a_pod_costs_the_sum_of_its_processes_and_calls():
    pod = cost_of_pod(MEASURED.costs, Pod(loads=5, saves=3, processes=2))
    assert (pod.logins, pod.signatures, pod.unwraps, pod.data_keys) == (2, 2, 5, 3)
    one = cost_of_pod(MEASURED.costs, Pod(loads=5, saves=3, processes=1))
    assert pod - one == MEASURED.costs.start + MEASURED.costs.session
    assert (one.store_reads, one.store_writes, one.store_listings) == (5, 3, 3)


@pytest.mark.parametrize("pods", [1, 10_000, 1_000_000])
def test_each_limit_is_reached_at_the_number_of_pods_that_the_model_says(pods):
    load = Load(pods)
    for demand in first_to_break(asked(load)):
        reached = replace(load, pods=breaks_at(demand, load))
        (again,) = (each for each in asked(reached) if each.name == demand.name)
        assert again.share == pytest.approx(1)


def test_twice_the_limits_are_reached_by_twice_the_pods():
    twice = Limits(*(2 * getattr(Limits(), each.name) for each in fields(Limits)))
    for before, after in zip(asked(Load(1000)), asked(Load(2000), twice), strict=True):
        assert after.share == (None if before.share is None else pytest.approx(before.share))


def test_each_setting_of_the_table_moves_its_resource():
    def amount(name, load):
        (found,) = (each.amount for each in asked(load) if each.name == name)
        return found

    usual = Load(1000)
    for name, changed in {
        "processors of the key service": Load(1000, Pod(processes=1)),
        "audit log of the key service": Load(1000, Pod(processes=1)),
        "writes of the store": Load(1000, Pod(saves=1)),
        "downloads from Argo's server at once": Load(1000, reads=0.001),
        "valid service tokens": Load(1000, token_hours=0.25),
        "TokenReviews, with the method `kubernetes`": Load(1000, Pod(processes=1)),
    }.items():
        assert amount(name, changed) < amount(name, usual), name
    assert MEASURED.costs_of_outcomes.save.trail < MEASURED.costs.save.trail


def test_what_is_kept_is_read_back(tmp_path):
    (tmp_path / "results.json").write_text(kept(MEASURED))
    assert read(tmp_path / "results.json") == MEASURED


def test_a_page_that_names_an_unknown_table_is_refused():
    with pytest.raises(KeyError):
        rendered("<!-- measured: nonsense -->\n<!-- end -->\n", MEASURED)


def test_costs_are_added_and_multiplied_field_by_field():
    one = Cost(*range(1, 1 + len(fields(Cost))))
    assert one + one == one * 2
    assert one - one == Cost()
    assert one.keys == one.logins + one.signatures + one.data_keys + one.unwraps


# --- the plots --------------------------------------------------------------------------------------------


@pytest.fixture(params=sorted(pictures(MEASURED)))
def picture(request):
    return pictures(MEASURED)[request.param]


def test_a_picture_is_small_and_asks_for_nothing(picture):
    assert len(picture.encode()) < LARGEST
    tree = ET.fromstring(picture)
    kinds = {element.tag.rpartition("}")[2] for element in tree.iter()}
    assert kinds <= {"svg", "title", "style", "rect", "text", "line", "polyline", "circle"}
    assert not [name for element in tree.iter() for name in element.attrib if "href" in name or name.startswith("on")]
    assert "url(" not in picture


def test_names_of_lines_do_not_overlap_and_are_within_the_picture(picture):
    texts = [each for each in ET.fromstring(picture).iter() if each.get("class", "").startswith("t")]
    rows = sorted(float(each.get("y")) for each in texts if each.tag.endswith("text"))
    assert len(rows) >= 2
    assert all(below - above >= 12 for above, below in itertools.pairwise(rows))
    assert 0 < rows[0] < rows[-1] < plots.HEIGHT


def test_every_line_is_within_its_axes(picture):
    for line in ET.fromstring(picture).iter():
        for point in (line.get("points") or "").split():
            x, y = map(float, point.split(","))
            assert 0 < x < plots.WIDTH
            assert 0 < y < plots.HEIGHT


@pytest.mark.parametrize("which", [0, 1], ids=["light", "dark"])
def test_lines_and_texts_can_be_told_from_the_background(which):
    colours = (plots.LIGHT, plots.DARK)[which]
    for colour in (*colours, plots.INK[which]):
        assert contrast(colour, plots.PAPER[which]) >= 4.5, colour
    assert len(set(colours)) == len(colours)


def contrast(one, another):
    """Return the contrast ratio of WCAG 2: from 1 to 21."""
    light, dark = sorted((luminance(one), luminance(another)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
