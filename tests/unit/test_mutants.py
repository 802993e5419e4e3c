"""What `tests/fixtures/mutants.py` takes for a comparison or a window bound, and what it leaves alone."""

from tests.fixtures.mutants import Mutant, of_python, of_sql, spread


def changed(found: list[Mutant], text: str) -> list[str]:
    return [mutant.apply(text) for mutant in found]


def test_each_comparison_and_side_of_a_kernel_is_a_site():
    text = "é = a < b <= c\nfound = x.searchsorted(t, side='left') if a >= b else {'right': t}\nd = a > b\n"
    assert sorted(changed(list(of_python("k.py", text)), text)) == sorted(
        [
            text.replace("a < b", "a <= b"),
            text.replace("b <= c", "b < c"),
            text.replace("left", "right"),
            text.replace("a >= b", "a > b"),
            text.replace("a > b", "a >= b"),
        ]
    )


def test_what_only_raises_is_no_site_and_what_does_more_is():
    text = "if a < 0:\n    raise ValueError\nif a < 1:\n    b = a > '<'  # <\n    raise ValueError\nc = a == b != d\n"
    assert changed(list(of_python("k.py", text)), text) == [text.replace("a < 1", "a <= 1")]


def test_a_side_may_stand_without_its_name():
    text = 'a = np.searchsorted(ts, at, "left")\n'
    assert changed(list(of_python("k.py", text)), text) == [text.replace("left", "right")]


def test_a_comparison_with_a_size_is_no_site():
    text = "while at < ts.size and n + k > out.shape[0] or 1 < len(x) or a[0] < b:\n    at = 1\n"
    assert changed(list(of_python("k.py", text)), text) == [text.replace("a[0] <", "a[0] <=")]


def test_comments_texts_names_and_arrows_of_sql_are_no_sites():
    text = """select '<' as "a>=b", list_filter(x, v -> v != 1) -- a < b
    /* a < b
       > c */ from t where a <> b and f(x => 1) and 'it''s >' = c"""
    assert list(of_sql("m", text)) == []


def test_each_comparison_and_length_of_a_window_is_a_site_of_sql():
    text = "select sum(a) over (order by b rows between 19 preceding and current row) from t\nwhere a<b and c >= 20"
    assert changed(list(of_sql("m", text)), text) == [
        text.replace("19 p", "20 p"),
        text.replace("a<b", "a<=b"),
        text.replace("c >= 20", "c > 20"),
    ]


def test_mutants_of_one_line_have_names_of_their_own():
    text = "a = b < c or d < e\n"
    first, second = of_python("k.py", text)
    assert first.name == "k.py: 1. `<` → `<=` in `a = b < c or d < e`"
    assert second.name == "k.py: 2. `<` → `<=` in `a = b < c or d < e`"

    three = list(of_python("k.py", "if a < b < c:\n    d = 1\n" * 2))
    assert [m.name.split(":")[1].split(".")[0] for m in three] == [" 1", " 2", " 3", " 4"]


def test_sources_take_turns_and_a_smaller_sample_is_the_start_of_a_larger_one():
    groups = [list(of_python(f"{k}.py", "a = b < c\n" * k)) for k in (0, 1, 2, 9)]
    assert sorted(m.where for m in spread(groups, 3, seed=1)) == ["1.py", "2.py", "9.py"]
    assert spread(groups, 5, seed=1) == spread(groups, 12, seed=1)[:5]
    assert len(set(spread(groups, 99, seed=1))) == 12
    assert spread(groups, 12, seed=1) != spread(groups, 12, seed=2)
