"""The report of a plan file as pages, one a language: what `farthing serve plan.toml` shows beside its live figures.

Loaded by name, and only for a plan file. Knows no server.
"""

from datetime import date

from farthing.cli.planned_model import asked_of, config_of
from farthing.planner.hardware import find_hardware
from farthing.planner.page.document import report_html
from farthing.planner.plan import make_plan

LANGUAGES = ("en", "zh")


def pages_of(plan_file: str) -> dict[str, str]:
    """FarthingError for a plan that can't be made any more."""
    model, request = asked_of(plan_file, {})
    name, config = config_of(model)
    plan = make_plan(name, config, find_hardware(request), request)
    return {lang: report_html(plan, lang, date.today().isoformat(), config) for lang in LANGUAGES}
