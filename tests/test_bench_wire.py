"""The benchmark of the wire measures something."""

from scripts.bench_wire import costs, result


def test_each_cost_is_a_time_and_a_larger_message_costs_more() -> None:
    few, many = (list(map(float, costs(n))) for n in (2, 200))
    assert all(ms > 0 for ms in few)
    # Of the sizes and of what is done for each detection; publishing hands over a pointer.
    assert all(less < more for less, more in zip(few[:3], many[:3], strict=True))
    assert len(result(7, 0).detections) == 7
