import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco
from skimage.measure import label as skimage_label

from text4seg.errors import InvalidInputError
from text4seg.masks import (
    Box,
    box_of,
    coverage,
    mask_area,
    mask_of_polygons,
    polygons_of,
    resample,
    split_instances,
    to_grid,
    upsample,
)

SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)
MASKS = arrays.arrays(np.bool_, SHAPES)
SIDES = st.integers(1, 40)


def ellipse(height, width, centre, radii):
    y, x = np.mgrid[:height, :width] + 0.5
    return ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 <= 1


# Resampling


def test_nearest_upsampling_repeats_cells_where_the_sizes_divide():
    grid = np.array([[1, 2], [3, 4]], dtype=np.int16)
    expected = [[1, 1, 1, 2, 2, 2], [1, 1, 1, 2, 2, 2], [3, 3, 3, 4, 4, 4], [3, 3, 3, 4, 4, 4]]
    result = upsample(grid, (4, 6))
    assert result.dtype == np.int16
    assert result.tolist() == expected


@given(arrays.arrays(np.int16, SHAPES), SIDES, SIDES)
def test_nearest_takes_the_cell_under_each_pixel_centre(grid, height, width):
    rows, cols = grid.shape
    result = upsample(grid, (height, width))
    assert result.shape == (height, width)
    for y in {0, height // 2, height - 1}:
        for x in {0, width // 3, width - 1}:
            # In whole numbers: floor((y + 1/2) rows / height).
            assert result[y, x] == grid[(2 * y + 1) * rows // (2 * height), (2 * x + 1) * cols // (2 * width)]


def test_nearest_is_exact_at_the_published_grid_sizes():
    for rows in (16, 24, 32):
        for height in range(1, 2100, 7):
            index = upsample(np.arange(rows)[:, None], (height, 1))[:, 0]
            assert index.tolist() == [(2 * y + 1) * rows // (2 * height) for y in range(height)]


@given(
    arrays.arrays(np.float32, SHAPES, elements=st.floats(0, 1, width=32)),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_bilinear_enlarging_agrees_with_opencv(grid, down, across):
    size = (grid.shape[0] * down + 1, grid.shape[1] * across + 2)
    result = upsample(grid, size, "bilinear")
    assert result.dtype == np.float32
    np.testing.assert_allclose(
        result, cv2.resize(grid, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), atol=2e-6
    )


@given(arrays.arrays(np.float64, SHAPES, elements=st.floats(0, 1)), SIDES, SIDES)
def test_bilinear_stays_within_the_values_it_is_given(grid, height, width):
    result = upsample(grid, (height, width), "bilinear")
    assert result.dtype == np.float64
    assert grid.min() - 1e-12 <= result.min()
    assert result.max() <= grid.max() + 1e-12


def test_positions_outside_take_the_border():
    grid = np.array([[0.0, 1.0]])
    positions = np.array([-3.0, 0.5, 1.0, 1.5, 9.0])
    assert resample(grid, np.array([5.0]), positions, "bilinear").tolist() == [[0, 0, 0.5, 1, 1]]
    assert resample(grid, np.array([-5.0]), positions, "nearest").tolist() == [[0, 0, 1, 1, 1]]


def test_resampling_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="floating-point"):
        upsample(np.eye(2, dtype=np.bool_), (4, 4), "bilinear")
    with pytest.raises(ValueError, match="positive"):
        upsample(np.eye(2), (0, 4))
    with pytest.raises(ValueError, match="cubic"):
        upsample(np.eye(2), (4, 4), "cubic")


# Mask to grid


@given(MASKS, st.integers(1, 9), st.integers(1, 9))
def test_coverage_counts_parts_of_pixels(mask, rows, cols):
    height, width = mask.shape
    # Split every pixel so finely that cells hold whole parts, then count.
    fine = np.repeat(np.repeat(mask, rows, axis=0), cols, axis=1)
    expected = fine.reshape(rows, height, cols, width).mean(axis=(1, 3))
    np.testing.assert_allclose(coverage(mask, (rows, cols)), expected, rtol=1e-15)


def test_coverage_of_a_large_image_agrees_with_opencvs_area_rule():
    mask = ellipse(1217, 1823, (500, 900), (301, 702))
    theirs = cv2.resize(mask.astype(np.float64), (32, 24), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(coverage(mask, (24, 32)), theirs, atol=1e-6)


@given(
    arrays.arrays(np.bool_, st.tuples(st.integers(1, 8), st.integers(1, 8))),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_a_grid_survives_enlarging_by_whole_factors(grid, down, across):
    mask = upsample(grid, (grid.shape[0] * down, grid.shape[1] * across))
    for rule in ("area", "nearest"):
        np.testing.assert_array_equal(to_grid(mask, grid.shape, rule), grid)


def test_the_threshold_decides_how_much_of_a_cell_must_be_covered():
    mask = np.zeros((8, 8), dtype=np.bool_)
    mask[:4, :2] = True  # half of the top left cell of 4 x 4
    mask[:4, 4:5] = True  # a quarter of its neighbour
    assert coverage(mask, (2, 2)).tolist() == [[0.5, 0.25], [0, 0]]
    assert to_grid(mask, (2, 2)).tolist() == [[True, False], [False, False]]
    assert to_grid(mask, (2, 2), threshold=0.51).tolist() == [[False, False], [False, False]]
    assert to_grid(mask, (2, 2), threshold=0.25).tolist() == [[True, True], [False, False]]


def test_a_low_threshold_keeps_a_thin_object_that_nearest_loses():
    mask = np.zeros((160, 160), dtype=np.bool_)
    mask[:, 12:15] = True
    assert not to_grid(mask, (16, 16), "nearest").any()
    assert to_grid(mask, (16, 16), threshold=0.25)[:, 1].all()


def test_non_bool_masks_count_non_zero_as_foreground():
    assert to_grid(np.full((4, 4), 255, dtype=np.uint8), (2, 2)).all()


@pytest.mark.parametrize("threshold", [0, -1, 1.1, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        to_grid(np.eye(4, dtype=np.bool_), (2, 2), threshold=threshold)


def test_a_bad_grid_or_rule_is_refused():
    with pytest.raises(ValueError, match="positive"):
        to_grid(np.eye(4, dtype=np.bool_), (0, 2))
    with pytest.raises(ValueError, match="median"):
        to_grid(np.eye(4, dtype=np.bool_), (2, 2), "median")


# Boxes and areas


@given(MASKS)
def test_the_box_is_tight_and_half_open(mask):
    box = box_of(mask)
    assert (box is None) == (not mask.any())
    assert mask_area(mask) == sum(map(bool, mask.ravel().tolist()))
    if box is not None:
        rows, columns = np.nonzero(mask)
        assert box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        x, y, width, height = coco.toBbox(coco.encode(np.asfortranarray(mask.astype(np.uint8))))
        assert (box.x0, box.y0, box.width, box.height) == (x, y, width, height)
        assert box.area == width * height
        assert all(type(side) is int for side in box)


# Polygons


def shoelace(ring):
    following = np.roll(ring, -1, axis=0)
    return int((ring[:, 0] * following[:, 1] - following[:, 0] * ring[:, 1]).sum()) / 2


@given(MASKS)
def test_traced_polygons_fill_to_the_exact_mask(mask):
    rings = polygons_of(mask)
    np.testing.assert_array_equal(mask_of_polygons(rings, mask.shape), mask)
    assert sum(map(shoelace, rings)) == mask_area(mask)
    for ring in rings:
        steps = np.roll(ring, -1, axis=0) - ring
        assert ((steps == 0).sum(axis=1) == 1).all(), "every step is along one axis"
        assert ((steps[:, 0] == 0) != (np.roll(steps, 1, axis=0)[:, 0] == 0)).all(), "every vertex is a turn"
        assert len(np.unique(ring, axis=0)) == len(ring), "no vertex is passed twice"


def test_a_hole_runs_against_its_outline():
    mask = np.ones((5, 6), dtype=np.bool_)
    mask[2, 2:4] = False
    outline, hole = polygons_of(mask)
    assert outline.tolist() == [[0, 0], [6, 0], [6, 5], [0, 5]]
    assert sorted(hole.tolist()) == [[2, 2], [2, 3], [4, 2], [4, 3]]
    assert shoelace(outline) == 30
    assert shoelace(hole) == -2


def test_pixels_that_meet_at_a_corner_have_rings_of_their_own():
    rings = polygons_of(np.eye(3, dtype=np.bool_))
    assert [shoelace(ring) for ring in rings] == [1, 1, 1]
    # A loop closed by a corner only: an outline and a hole that touch.
    loop = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=np.bool_)
    assert sorted(shoelace(ring) for ring in polygons_of(loop)) == [-1, 8]


def test_an_empty_mask_has_no_polygon():
    assert polygons_of(np.zeros((3, 3), dtype=np.bool_)) == ()
    assert not mask_of_polygons([], (3, 3)).any()


def test_a_large_mask_is_traced_exactly():
    mask = ellipse(1500, 2000, (700, 900), (600, 850)) & ~ellipse(1500, 2000, (700, 1000), (100, 300))
    rings = polygons_of(mask)
    assert len(rings) == 2
    np.testing.assert_array_equal(mask_of_polygons(rings, mask.shape), mask)


COORDINATES = st.one_of(st.integers(-10, 30), st.floats(-10, 30, width=32))


@given(st.lists(st.tuples(COORDINATES, COORDINATES), min_size=3, max_size=8))
def test_filling_agrees_with_a_point_in_polygon_test(vertices):
    mask = mask_of_polygons([vertices], (17, 19))
    for row in range(17):
        for column in range(19):
            inside = False
            for (x0, y0), (x1, y1) in zip(vertices, [*vertices[1:], vertices[0]], strict=True):
                if (y0 <= row + 0.5) != (y1 <= row + 0.5):
                    crossing = x0 + (row + 0.5 - y0) / (y1 - y0) * (x1 - x0)
                    if abs(crossing - column - 0.5) < 1e-9:
                        break  # within rounding of the edge: either answer will do
                    inside ^= crossing < column + 0.5
            else:
                assert mask[row, column] == inside


def test_triangles_that_share_edges_neither_overlap_nor_leave_a_gap():
    rng = np.random.default_rng(3)
    corners = [(0, 0), (40, 0), (40, 30), (0, 30)]
    for centre in [*rng.uniform((0, 0), (40, 30), (30, 2)).tolist(), [20.5, 10.5], [20, 15]]:
        total = sum(
            mask_of_polygons([[corners[i], corners[(i + 1) % 4], centre]], (30, 40)).astype(int)
            for i in range(4)
        )
        assert (total == 1).all()


def test_polygons_are_combined_by_the_even_odd_rule_and_cut_at_the_image():
    outer, inner = [[-5, -5], [50, -5], [50, 50], [-5, 50]], [[2, 2], [4, 2], [4, 4], [2, 4]]
    mask = mask_of_polygons([outer, inner], (6, 7))
    assert mask_area(mask) == 6 * 7 - 4
    assert not mask[2:4, 2:4].any()
    assert not mask_of_polygons([[[10, 0], [12, 0], [12, 9]]], (6, 7)).any()


def test_many_tall_edges_are_filled_in_bounded_batches():
    # 1500 edges x 2000 rows: several batches.
    xs = np.arange(1500) * 2.0
    zigzag = np.stack((np.repeat(xs, 2), np.tile([0.0, 2000.0, 2000.0, 0.0], 750)), axis=1)
    mask = mask_of_polygons([zigzag], (2000, 3000))
    assert mask[:, 0::4].all()
    assert mask[:, 1::4].all()
    assert not mask[:, 2::4].any()
    assert not mask[:, 3::4].any()


@pytest.mark.parametrize(
    "polygon",
    [
        [[0, 0], [1, 1]],
        [0, 0, 4, 0, 4, 4],
        [[0, 0, 0], [1, 0, 0], [1, 1, 0]],
        [[0, 0], [1, 0], [1]],
        [[0, 0], [1, 0], ["a", 1]],
        [[0, 0], [1, 0], [float("nan"), 1]],
        [[0, 0], [1, 0], [1e300, 1]],
        [[0, 0], [1, 0], [1 << 2000, 1]],
        [],
    ],
)
def test_a_malformed_polygon_is_refused(polygon):
    with pytest.raises(InvalidInputError) as caught:
        mask_of_polygons([polygon], (4, 4))
    assert caught.value.field == "polygons"


@pytest.mark.parametrize("shape", [(0, 4), (4, -1), (1 << 20, 1 << 20)])
def test_a_bad_size_is_refused_before_anything_is_allocated(shape):
    with pytest.raises(InvalidInputError) as caught:
        mask_of_polygons([[[0, 0], [1, 0], [1, 1]]], shape)
    assert caught.value.field == "size"


# Instances


@given(MASKS)
def test_instances_are_the_8_connected_components(mask):
    labels, count = skimage_label(mask, connectivity=2, return_num=True)
    instances = split_instances(mask)
    assert len(instances) == count
    assert {instance.tobytes() for instance in instances} == {
        (labels == index).tobytes() for index in range(1, count + 1)
    }
    areas = [mask_area(instance) for instance in instances]
    assert areas == sorted(areas, reverse=True)


@given(MASKS, st.integers(1, 6), st.integers(1, 4))
def test_small_instances_are_left_out_and_the_largest_kept(mask, min_area, limit):
    everything = split_instances(mask)
    expected = [instance for instance in everything if mask_area(instance) >= min_area][:limit]
    np.testing.assert_array_equal(split_instances(mask, min_area, limit), expected)


def spiral(side):
    mask = np.zeros((side, side), dtype=np.bool_)
    top, left, bottom, right = 0, 0, side - 1, side - 1
    while top <= bottom and left <= right:
        mask[top, max(left - 2, 0) : right + 1] = True
        mask[top : bottom + 1, right] = True
        mask[bottom, left : right + 1] = True
        mask[top + 2 : bottom + 1, left] = True
        top, left, bottom, right = top + 2, left + 2, bottom - 2, right - 2
    return mask


@pytest.mark.parametrize(
    "mask",
    [
        np.random.default_rng(1).random((700, 900)) < 0.35,
        np.random.default_rng(1).random((700, 900)) < 0.6,
        spiral(401),
        ~spiral(401),
        np.indices((300, 300)).sum(axis=0) % 2 == 0,
        np.indices((301, 300))[1] % 2 == 0,
    ],
    ids=["sparse noise", "dense noise", "spiral", "spiral gap", "checkerboard", "stripes"],
)
def test_awkward_large_masks_are_split_right(mask):
    labels, count = skimage_label(mask, connectivity=2, return_num=True)
    areas = np.sort(np.bincount(labels[mask], minlength=count + 1)[1:])[::-1]
    instances = split_instances(mask, limit=20)
    assert [mask_area(instance) for instance in instances] == areas[:20].tolist()
    for instance in instances:
        assert len(np.unique(labels[instance])) == 1


def test_instances_of_equal_area_come_in_raster_order():
    mask = np.zeros((5, 9), dtype=np.bool_)
    mask[3, 0:2] = mask[0, 6:8] = mask[0, 2:4] = True
    assert [box_of(instance) for instance in split_instances(mask)] == [
        Box(2, 0, 4, 1),
        Box(6, 0, 8, 1),
        Box(0, 3, 2, 4),
    ]


def test_an_empty_mask_has_no_instance_and_bad_limits_are_refused():
    assert split_instances(np.zeros((4, 4), dtype=np.bool_)) == ()
    for arguments in ({"min_area": 0}, {"limit": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            split_instances(np.eye(4, dtype=np.bool_), **arguments)
