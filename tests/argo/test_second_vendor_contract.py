"""Argo's contract over the second vendor's plugin: the same tests as over the first vendor's and the bundled backend.

They run with no policy, with an enforced one, and where a rule forbids to write over what is stored. In the last case
those tests are left out that do so.
"""

# ruff: noqa: F401 - the tests and their fixtures are imported to run here, with other proxies

from __future__ import annotations

import itertools

import pytest
from argo.test_delete_list import (
    argo,
    test_39_deleting_a_missing_artifact_succeeds_every_time,
    test_40_a_directory_is_deleted_with_everything_beneath_it,
    test_41_a_listing_has_every_object_by_its_full_and_plain_key,
    test_43_an_empty_directory_has_an_empty_listing,
    test_44_is_directory_is_true_for_directories_alone,
    test_45_a_file_has_nothing_beside_or_beneath_it,
    tree,
)
from argo.test_directories import (
    Place,
    test_a_directory_and_a_file_replace_each_other,
    test_a_directory_comes_back_with_its_empty_directories,
    test_a_directory_whose_file_was_deleted_is_refused,
    test_a_directory_whose_manifest_is_not_the_saved_one_is_refused,
    test_a_file_in_a_directory_that_a_directory_replaced_is_refused,
    test_a_file_of_an_earlier_save_is_refused,
    test_a_file_or_a_manifest_of_another_directory_is_refused,
    test_a_file_that_a_marker_of_a_directory_replaced_is_refused,
    test_a_part_of_a_directory_is_opened_by_its_own_key_if_it_is_a_file,
    test_a_plaintext_file_in_the_place_of_a_sealed_one_is_refused,
    test_a_tree_with_the_name_of_a_manifest_is_not_saved,
    test_an_empty_directory_comes_back,
    test_an_empty_folder_inside_changes_nothing_and_goes_with_the_directory,
    test_an_object_that_is_bound_to_no_key_is_refused,
    test_an_upload_replaces_a_directory,
    test_planted_directories_do_not_arrive,
    test_planted_files_do_not_arrive_and_are_counted,
    test_the_manifest_is_no_object_of_the_directory,
)
from argo.test_load import (
    target,
    test_20_a_directory_arrives_file_by_file,
    test_20_a_file_arrives_byte_by_byte,
    test_21_a_changed_byte_leaves_nothing,
    test_21_a_cut_object_leaves_nothing,
    test_22_an_empty_artifact_is_an_empty_file,
    test_24_a_gzipped_tar_is_unchanged,
    test_26_nothing_is_written_through_a_link,
    test_28_one_file_of_a_directory_is_loaded_by_its_own_key,
)
from argo.test_open_stream import (
    test_46_47_data_is_sent_in_small_frames_without_an_end_or_an_error,
    test_48_a_truncated_object_never_ends_cleanly,
    test_50_an_empty_artifact_is_a_clean_end_without_data,
    test_51_only_verified_data_is_sent,
    test_52_aborted_streams_leave_neither_threads_nor_descriptors,
)
from argo.test_save import (
    source,
    test_30_a_directory_is_sealed_and_comes_back,
    test_30_a_file_is_sealed_and_comes_back,
    test_31_a_directory_link_out_of_the_roots_is_not_followed,
    test_31_a_link_that_stays_inside_is_followed,
    test_31_a_symbolic_link_out_of_the_roots_is_not_read,
    test_32_a_directory_with_a_link_is_refused_and_the_link_named,
    test_33_the_source_is_unchanged,
    test_34_a_second_save_replaces_an_artifact_atomically,
    test_37_each_save_has_a_connection_of_its_own_that_stays_open,
)
from argo.test_save_stream import (
    test_55_a_stream_without_an_artifact_is_refused,
    test_55_data_in_the_first_frame_is_kept,
    test_55_frames_may_be_of_any_size,
    test_56_an_aborted_upload_leaves_the_earlier_artifact,
    test_56_an_upload_that_the_caller_aborts_stores_nothing,
)
from argo.test_second_vendor import ROWS, in_front_of_the_second_vendor
from harness.chain import Proxy

WRITES_OVER = {
    "test_34_a_second_save_replaces_an_artifact_atomically",
    "test_56_an_aborted_upload_leaves_the_earlier_artifact",
    "test_a_directory_and_a_file_replace_each_other",
    "test_a_file_of_an_earlier_save_is_refused",
    "test_an_empty_folder_inside_changes_nothing_and_goes_with_the_directory",
    "test_an_upload_replaces_a_directory",
    "test_the_manifest_is_no_object_of_the_directory",
}
_numbers = itertools.count()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "second" in metafunc.fixturenames:
        over = metafunc.function.__name__ in WRITES_OVER
        rows = [row for row in ROWS if not (over and row.startswith("write once"))]
        metafunc.parametrize("second", rows, indirect=True, scope="module")


@pytest.fixture(scope="module")
def second(request, tmp_path_factory):
    proxy = in_front_of_the_second_vendor(request.param, tmp_path_factory.mktemp("contract")).start()
    yield proxy
    assert proxy.stop() == 0, proxy.output()


@pytest.fixture
def proxy(second) -> Proxy:
    return second


@pytest.fixture
def each(second) -> Proxy:
    return second


@pytest.fixture
def every(second) -> Proxy:
    return second


@pytest.fixture
def chain(second) -> Proxy:
    return second


@pytest.fixture
def place(second) -> Place:
    return Place(second, f"team/t{next(_numbers)}")
