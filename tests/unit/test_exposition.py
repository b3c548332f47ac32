"""Prometheus' text format, read back by its own client library."""

from __future__ import annotations

import math
from math import inf

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamkd_service.exposition import Family, render


def parsed(*families: Family):
    text = render(families).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_a_counter_ends_in_total():
    found = parsed(Family("streamkd_x", "counter", "Text.", ("camera",)).add({("gate",): 3}))["streamkd_x"]
    assert [(sample.name, sample.labels, sample.value) for sample in found.samples] == [
        ("streamkd_x_total", {"camera": "gate"}, 3.0)
    ]


def test_kind_and_text_are_told():
    found = parsed(Family("streamkd_x", "gauge", 'One "line" \\ and\nanother.').add({(): 1}))["streamkd_x"]
    assert (found.type, found.documentation) == ("gauge", 'One "line" \\ and\nanother.')


def test_a_histogram_has_buckets_count_and_sum():
    family = Family("streamkd_x", "histogram", "Text.", ("worker",))
    found = parsed(family.add_histogram(("w",), [(0.5, 2), (inf, 3)], 1.25))["streamkd_x"]
    seen = {(sample.name, sample.labels.get("le")): sample.value for sample in found.samples}
    assert seen == {
        ("streamkd_x_bucket", "0.5"): 2,
        ("streamkd_x_bucket", "+Inf"): 3,
        ("streamkd_x_count", None): 3,
        ("streamkd_x_sum", None): 1.25,
    }


@pytest.mark.parametrize("value", ['a"b', "a\\b", "a\nb", "Küche", ""])
def test_any_label_value_comes_back(value):
    found = parsed(Family("streamkd_x", "gauge", "Text.", ("label",)).add({(value,): 1}))["streamkd_x"]
    assert found.samples[0].labels == {"label": value}


@pytest.mark.parametrize("value", [0, 1.5, -2.0, 1e300, inf, -inf])
def test_any_number_comes_back(value):
    assert parsed(Family("streamkd_x", "gauge", "Text.").add({(): value}))["streamkd_x"].samples[0].value == value


def test_nan_comes_back():
    found = parsed(Family("streamkd_x", "gauge", "Text.").add({(): math.nan}))["streamkd_x"]
    assert math.isnan(found.samples[0].value)


def test_a_metric_without_samples_is_named_all_the_same():
    assert "streamkd_x" in parsed(Family("streamkd_x", "gauge", "Text."))
