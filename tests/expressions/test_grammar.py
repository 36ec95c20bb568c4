from __future__ import annotations

import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detgraft.errors import PlanError
from detgraft.plan.expression import MAX_DEPTH, Expression, GraftTerm, is_expression, parse_expression, parse_term
from detgraft.upstream.describe.expressions import compose_mapping

NAMES = st.from_regex(
    r"[A-Za-z_][A-Za-z0-9_.\-]{0,8}[A-Za-z0-9](/[A-Za-z0-9_.\-]{0,8}[a-z0-9])?", fullmatch=True
).filter(lambda name: not name.lower().endswith((".yaml", ".yml")))
# A text may hold either kind of quote, but not both: there is nothing to write it between then.
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12).filter(lambda t: not ("'" in t and '"' in t))
NUMBERS = st.integers() | st.floats(allow_nan=False)
SCALARS = NUMBERS | st.booleans() | st.none() | TEXTS
VALUES = SCALARS | st.lists(SCALARS, min_size=1, max_size=3).map(tuple)
SITES = st.tuples(st.sampled_from(["backbone", "head"]), st.none() | st.integers(0, 9999)) | st.just((None, None))
KEYS = st.from_regex(r"[a-z_][a-z0-9_]{0,6}", fullmatch=True)


INNER = st.recursive(
    st.builds(
        GraftTerm, st.sampled_from(("faster", "x/y", "A_1.b")), keywords=st.dictionaries(KEYS, NUMBERS, max_size=1)
    ),
    lambda inner: st.builds(GraftTerm, st.just("se"), keywords=st.just({}), inner=inner),
    max_leaves=MAX_DEPTH - 1,
).filter(lambda term: depth_of(term) < MAX_DEPTH)


def depth_of(term: GraftTerm) -> int:
    return 1 if term.inner is None else 1 + depth_of(term.inner)


@st.composite
def terms(draw: st.DrawFn) -> GraftTerm:
    inner = draw(st.none() | INNER)
    return GraftTerm(draw(NAMES), *draw(SITES), draw(st.dictionaries(KEYS, VALUES, max_size=3)), inner)


EXPRESSIONS = st.builds(
    Expression,
    st.sampled_from(["yolo11n", "yolo26s-seg", "rtdetr-l", "my folder/模型.yaml", "C:\\models\\own.yaml"]),
    st.lists(terms(), min_size=1, max_size=3, unique_by=str).map(tuple),
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # it measures the machine
@given(EXPRESSIONS)
def test_what_is_written_reads_as_the_same(expression: Expression) -> None:
    assert parse_expression(str(expression)) == expression
    assert str(parse_expression(str(expression))) == str(expression)
    assert parse_expression(f"{expression}.yaml") == expression
    assert is_expression(str(expression))


@given(st.text(string.printable, max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        expression = parse_expression(text)
    except PlanError as error:
        message = str(error)
        assert text in message or len(text) < 1
    else:
        assert parse_expression(str(expression)) == expression


def test_spaces_quotes_and_case() -> None:
    loose = (
        ' yolo11n + CARAFE @ head ( k_up = 3 , k_enc=5 ) + x/y( weights = "my file.pth" , width = auto, a=None,b=true)'
    )
    assert str(parse_expression(loose)) == (
        "yolo11n+CARAFE@head(k_up=3,k_enc=5)+x/y(weights=my file.pth,width=auto,a=None,b=True)"
    )
    assert parse_expression("yolo11n+carafe@neck") == parse_expression("yolo11n+carafe@head")


def test_a_graft_inside_another() -> None:
    loose = " yolo11n + C3k2 @ backbone.2 ( pinwheelconv( k = 5 ) , at = cv1 )+csp( faster )+csp( faster ,at=cv2)"
    expression = parse_expression(loose)
    assert str(expression) == "yolo11n+C3k2@backbone.2(pinwheelconv(k=5),at=cv1)+csp(faster)+csp(faster,at=cv2)"
    assert expression.grafts[0] == GraftTerm(
        "C3k2", "backbone", 2, {"at": "cv1"}, GraftTerm("pinwheelconv", keywords={"k": 5})
    )
    assert parse_expression("yolo11n+a(b(c(d)))").grafts[0].inner == GraftTerm(
        "b", inner=GraftTerm("c", inner=GraftTerm("d"))
    )


def test_only_a_shell_takes_a_graft_inside() -> None:
    with pytest.raises(PlanError, match=r"'carafe\(simam\)': 'CARAFE' takes no graft inside it"):
        compose_mapping("yolo11n+carafe(simam)")


def test_values_are_data() -> None:
    (term,) = parse_expression("a+b(i=3,f=0.5,e=1e-3,t=1x,q='3',n=none,code=__import__.os)").grafts
    assert term.keywords == {"i": 3, "f": 0.5, "e": 1e-3, "t": "1x", "q": "3", "n": None, "code": "__import__.os"}


@pytest.mark.parametrize(
    ("text", "words", "column"),
    [
        ("+carafe", "begins with a base model", 1),
        ("yolo11n+", "expected a graft's name", 9),
        ("yolo11n+carafe+", "expected a graft's name", 16),
        ("yolo11n+1x", "expected a graft's name", 9),
        ("yolo11n+a/b/c", "expected '+' and another graft, or the end", 12),
        ("yolo11n+carafe@", "expected a site: backbone, head", 16),
        ("yolo11n+carafe@hed", "Did you mean 'head'", 16),
        ("yolo11n+carafe@head.x", "expected '+' and another graft, or the end", 20),
        ("yolo11n+carafe@head.-1", "expected '+' and another graft, or the end", 20),
        ("yolo11n+carafe(k_up", "expected '=' and a value after 'k_up'", 20),
        ("yolo11n+carafe(k_up=", "expected a value", 21),
        ("yolo11n+carafe(k_up=3", "expected ',' or ')'", 22),
        ("yolo11n+carafe(3)", "expected an argument's name", 16),
        ("yolo11n+carafe(k_up=3,k_up=5)", "the argument 'k_up' is given twice", 23),
        ("yolo11n+carafe(k_up='3)", "expected a value", 21),
        ("yolo11n+carafe(k_up=3) carafe", "expected '+' and another graft, or the end", 24),
        ("yolo11n+carafe;rm", "expected '+' and another graft, or the end", 15),
        ("yolo11n+c3k2(faster", "expected '=' and a value after 'faster', or ')'", 20),
        ("yolo11n+c3k2(faster eca)", "expected '=' and a value after 'faster', or ')'", 21),
        ("yolo11n+c3k2(faster(", "expected an argument's name", 21),
        ("yolo11n+c3k2(faster()", "expected ',' or ')'", 22),
        ("yolo11n+c3k2(faster,eca)", "expected '=' and a value after 'eca'", 24),
        ("yolo11n+c3k2(at=cv1,faster)", "expected '=' and a value after 'faster'", 27),
        ("yolo11n+c3k2(faster@head)", "only that one has a site", 21),
        ("yolo11n+c3k2(3)", "expected an argument's name", 14),
        ("yolo11n+a(b(c(d(e))))", "more than 4 grafts inside each other", 17),
    ],
)
def test_an_error_shows_the_column(text: str, words: str, column: int) -> None:
    with pytest.raises(PlanError) as caught:
        parse_expression(text)
    message = str(caught.value)
    assert message.startswith(f"{text}: ")
    assert words in message
    assert message.rstrip(")").endswith(f"at column {column}"), message


def test_a_graft_given_twice() -> None:
    with pytest.raises(PlanError, match=r"'carafe\(k_up=3\)' is given twice"):
        parse_expression("yolo11n+carafe(k_up=3)+carafe( k_up = 3 )")


def test_bounds() -> None:
    with pytest.raises(PlanError, match="at most 2000 characters, found 2008"):
        parse_expression("yolo11n+" + "a" * 2000)
    with pytest.raises(PlanError, match="more than 50 grafts"):
        parse_expression("yolo11n+" + "+".join(f"g{i}" for i in range(51)))


@pytest.mark.parametrize(
    "text", ["yolo11n", "yolo11n.yaml", "a+b.pt", "runs/a+b/weights/best.pt", "a+b.safetensors", "a+b.onnx"]
)
def test_what_is_no_expression(text: str) -> None:
    assert not is_expression(text)


def test_a_value_may_be_several() -> None:
    expression = parse_expression("yolo11n+shape_iou( focaler = (0.0, 0.95) ,scale=1)+x(k=(a,'b,c',None))")
    assert expression.grafts[0].keywords == {"focaler": (0.0, 0.95), "scale": 1}
    assert expression.grafts[1].keywords == {"k": ("a", "b,c", None)}
    assert str(expression) == "yolo11n+shape_iou(focaler=(0.0,0.95),scale=1)+x(k=(a,'b,c',None))"
    assert parse_expression(str(expression)) == expression
    for text, words in (
        ("yolo11n+a(k=(1,2)", "expected ',' or ')'; found the end"),
        ("yolo11n+a(k=())", "expected a value; found '))'"),
        ("yolo11n+a(k=((1)))", "expected a value; found '(1)))'"),
    ):
        with pytest.raises(PlanError) as caught:
            parse_expression(text)
        assert words in str(caught.value)


def test_one_graft_alone() -> None:
    assert parse_term("wiou(version=3,inner=0.75)") == parse_expression("yolo11n+wiou(version=3,inner=0.75)").grafts[0]
    with pytest.raises(PlanError, match="expected the end"):
        parse_term("wiou+mpdiou")
