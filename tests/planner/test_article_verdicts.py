"""The sentences of the article's pages follow the figures, and the commands print the figures they stand beside."""

import importlib
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from farthing.cli import app, output
from farthing.hardware.accelerator import load_accelerator
from farthing.hardware.figure import Figure

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts"))
write_article = importlib.import_module("write_article")
verdicts = importlib.import_module("article.verdicts")
questions = importlib.import_module("article.questions")
hardware_2026 = importlib.import_module("article.hardware_2026")
unsold = importlib.import_module("article.unsold")
plans = importlib.import_module("article.plans")
prices = importlib.import_module("article.prices")
words = importlib.import_module("article.words")
pages = importlib.import_module("article.page")
sys.path.remove(str(REPOSITORY / "scripts"))

ENGLISH = words.load_words("en")
Run = Callable[[str], str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command in this process, at home in an empty folder, on a wide terminal: what it prints."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(output.stdout, "width", 200)

    def run(command: str) -> str:
        program, *arguments = shlex.split(command)
        assert program == "farthing"
        with pytest.raises(SystemExit) as ended:
            app.main(arguments)
        printed = capsys.readouterr()
        assert ended.value.code == 0, printed.err
        return printed.out

    return run


def text(cell: object) -> str:
    return ENGLISH.text(cell)


def test_a_claim_is_right_near_its_figure_and_else_wrong_by_a_factor() -> None:
    assert text(verdicts.judge(10, 10.3)) == "right"
    assert text(verdicts.judge(10, 8)) == "wrong: 1.25 times too high"
    assert text(verdicts.judge(10, 20)) == "wrong: 2.00 times too low"
    assert text(verdicts.judge(10, 8, within=0.3)) == "right within 25%"


def test_a_claim_that_holds_in_one_case_names_it() -> None:
    cases = {"case.sums_fp32": 6.0, "case.sums_fp16": 3.0}
    assert text(verdicts.judge_cases(6, cases)) == "right only for sums kept in fp32"
    assert text(verdicts.judge_cases(3, cases)) == "right only for sums kept in fp16"
    assert text(verdicts.judge_cases(6, dict.fromkeys(cases, 6.1))) == "right"
    assert text(verdicts.judge_cases(9, cases)) == "wrong: 1.50 times too high"


def test_a_single_number_for_many_is_right_only_if_they_agree() -> None:
    assert text(verdicts.judge_range(10, 7, 13)) == "depends: from 7.00 to 13.0"
    assert text(verdicts.judge_range(10, 9.8, 10.2)) == "right"
    assert text(verdicts.judge_range(10, 2, 5)) == "wrong: 2.00 times too high"
    assert text(verdicts.judge_range(10, 20, 50)) == "wrong: 2.00 times too low"


def test_which_of_two_is_more_can_be_the_other_way_round() -> None:
    assert text(verdicts.judge_ratio(1.16, 1.18)) == "right"
    assert text(verdicts.judge_ratio(1.16, 0.8)) == "wrong: it is the other way round"
    assert text(verdicts.judge_ratio(1.16, 2.32)) == "wrong: 2.00 times too low"


def test_good_arithmetic_on_a_wrong_premise_is_told_from_bad_arithmetic() -> None:
    assert "premise wrong: 8.00 times too high" in text(verdicts.judge_premise(80, 80, 10))
    assert text(verdicts.judge_premise(80, 80, 80)) == "right"
    assert text(verdicts.judge_premise(80, 40, 10)) == "wrong: 2.00 times too high"


def test_the_winner_flips_where_a_token_costs_the_same() -> None:
    assert text(questions.winner(2.0)) == "4090, 2.00x"
    assert text(questions.winner(0.5)) == "H100, 2.00x"
    assert text(questions.winner(1.02)) == "even (1.02x)"
    assert text(questions.winner(None)) == "unknown"


def test_the_answer_over_contexts_names_every_flip() -> None:
    def answered(*gains: float) -> str:
        return text(questions.answer(list(zip(plans.LOADS, gains, strict=True))))

    assert answered(2, 2, 2, 2) == "the 4090 is cheaper at every context asked"
    assert answered(0.5, 0.5, 0.5, 0.5) == "the H100 is cheaper at every context asked"
    flipped = answered(2, 0.5, 0.5, 2)
    assert flipped.startswith("the 4090 is cheaper at short contexts")
    assert "between 512 and 4,096 tokens it flips to the H100" in flipped
    assert "between 16,384 and 32,768 tokens it flips to the 4090" in flipped


def test_a_gain_is_the_price_ratio_over_the_token_ratio() -> None:
    """By hand from the planner's own figures: dollars an hour and tokens per second."""
    for basis in (prices.OWNED, prices.RENTED):
        mine, theirs = basis.dollars_per_hour(plans.STOCK), basis.dollars_per_hour(plans.H100)
        tokens = [plans.tokens_per_second(plans.box_plan(plans.ARTICLE, box)) for box in (plans.STOCK, plans.H100)]
        gain = questions.gain(basis, plans.ARTICLE, plans.STOCK)
        assert gain == pytest.approx((theirs / mine) / (tokens[1] / tokens[0]))


def test_the_article_s_prices_are_those_it_names() -> None:
    assert prices.OF_ARTICLE.monthly(plans.STOCK).capital_dollars == 40_000
    assert prices.OF_ARTICLE.monthly(plans.H100).capital_dollars == 300_000


def test_a_single_stream_is_cheaper_where_speed_grows_less_than_the_price() -> None:
    assert questions.stream_key([2.0, 3.0], 6.0) == "say.stream_4090"
    assert questions.stream_key([7.0, 9.0], 6.0) == "say.stream_h100"
    assert questions.stream_key([5.0, 8.0], 6.0) == "say.stream_even"


def test_cards_against_boards_follows_the_dollars() -> None:
    assert hardware_2026.kind_key(1.0, 2.0) == "today.kind_card"
    assert hardware_2026.kind_key(2.0, 1.0) == "today.kind_board"
    assert hardware_2026.kind_key(1.0, 1.1) == "today.kind_even"


def test_a_chip_is_compared_by_what_is_known_of_it() -> None:
    maia, h100 = load_accelerator("maia-100"), load_accelerator("h100-sxm")
    found = {side: text(cell) for side, cell in unsold.against(maia, h100).items()}
    assert "bandwidth 0.54x" in found["below"] and "dense fp8" in found["unknown"] and "link" in found["above"]
    faster = replace(maia, bandwidth=Figure(2 * h100.bandwidth.value, ("HOTCHIPS_MAIA",)))
    assert "bandwidth 2.00x" in text(unsold.against(faster, h100)["above"])
    unknown = replace(maia, bandwidth=None)
    assert "bandwidth" in text(unsold.against(unknown, h100)["unknown"])


def test_what_can_not_be_had_is_not_planned() -> None:
    for language, word in (("en", "not planned"), ("zh", "不规划")):
        (row,) = [line for line in write_article.page(language).splitlines() if line.count(word) == 2]
        assert row.count("|") == 8


def test_both_languages_have_the_same_words_with_the_same_gaps() -> None:
    english, chinese = (words.load_words(language).texts for language in words.LANGUAGES)
    assert english.keys() == chinese.keys()
    assert {key: words.gaps(value) for key, value in english.items()} == {
        key: words.gaps(value) for key, value in chinese.items()
    }


def test_the_commands_of_a_claim_print_its_figures(run: Run) -> None:
    claims = pages.all_claims()
    assert len(claims) > 20 and sum(len(claim.shows) for claim in claims.values()) > 15
    for id, claim in claims.items():
        printed = "\n".join(run(command) for command in claim.commands)
        assert [figure for figure in claim.shows if figure not in printed] == [], id


def test_the_other_commands_of_the_page_run(run: Run) -> None:
    page, ran = write_article.page("en"), 0
    for line in page.splitlines():
        if line.startswith("farthing "):
            assert run(line).strip()
            ran += 1
    assert ran > 5


def test_a_claim_can_be_printed_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["write_article", "--claim", "per-byte"])
    write_article.main()
    printed = capsys.readouterr().out
    assert "8,192 a byte" in printed and "wrong: 2.00 times too high" in printed
    monkeypatch.setattr(sys, "argv", ["write_article", "--claim", "nonsense"])
    with pytest.raises(SystemExit, match="there is no claim 'nonsense'"):
        write_article.main()
