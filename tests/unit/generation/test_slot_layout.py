from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sft.generation.slot_layout import Limits, Need, plan_layout

NEEDS = st.lists(st.builds(Need, st.integers(1, 900), st.integers(1, 300)), min_size=1, max_size=30)


@given(NEEDS, st.integers(1, 20), st.integers(1, 20_000), st.integers(1, 300))
def test_every_row_fits_and_the_budget_holds(needs: list[Need], slots: int, tokens: int, spare: int) -> None:
    layout = plan_layout(needs, Limits(slots, tokens, spare))
    assert layout.clock >= max(need.tokens for need in needs)
    assert layout.columns > layout.clock
    assert layout.columns >= max(need.tokens + need.remaining for need in needs)
    assert 1 <= layout.slots <= min(slots, len(needs))
    assert layout.slots == 1 or layout.slots * layout.columns <= tokens


@given(NEEDS, st.integers(1, 20), st.integers(1, 20_000), st.data())
def test_rows_in_slots_keep_a_place_in_every_later_layout(
    needs: list[Need], slots: int, tokens: int, data: st.DataObject
) -> None:
    limits = Limits(slots, tokens)
    first = plan_layout(needs, limits)
    later = [need for need in needs if data.draw(st.booleans())]
    steps = data.draw(st.integers(0, 300))
    later = [Need(need.tokens + min(steps, need.remaining - 1), max(1, need.remaining - steps)) for need in later]
    if later:
        assert plan_layout(later, limits).slots >= min(first.slots, len(later))


def test_short_rows_get_more_slots() -> None:
    limits = Limits(64, 4000)
    long, short = [Need(900, 100)] * 3, [Need(50, 50)] * 40
    assert plan_layout(long + short, limits).slots == 3
    assert plan_layout(short, limits).slots == 4000 // (100 + 64)
