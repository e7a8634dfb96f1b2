from loadtests.report.figures import Range, mean, over, quartiles


def test_a_figure_over_the_repeats_is_its_median_and_its_range() -> None:
    assert over(iter([3.0, 1.0, 9.0])) == Range(median=3.0, least=1.0, most=9.0)


def test_quartiles_bound_the_middle_half() -> None:
    assert quartiles([5.0, 1.0, 2.0, 4.0, 3.0]) == (2.0, 3.0, 4.0)
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)


def test_a_mean_of_nothing_is_zero() -> None:
    assert (mean([1.0, 2.0]), mean([])) == (1.5, 0.0)
