"""Label and field selectors as their query options spell them."""

from collections.abc import Callable

from lab.apiserver.status import bad_request
from lab.apiserver.store import Object

_Test = Callable[[Object], bool]


def make_selector(labels: str, fields: str) -> _Test:
    """A test for objects that both selectors let through; an empty selector lets all through.

    Labels take ``a=b``, ``a==b``, ``a!=b``, ``a in (b, c)``, ``a notin (b, c)``, ``a`` and ``!a``;
    fields take dotted paths with the first three. Raises ApiError 400 for others.
    """
    label_tests = [_label_test(term) for term in _terms(labels)]
    field_tests = [_field_test(term) for term in _terms(fields)]

    def matches(item: Object) -> bool:
        own = item["metadata"].get("labels") or {}
        return all(test(own) for test in label_tests) and all(test(item) for test in field_tests)

    return matches


def _terms(selector: str) -> list[str]:
    """Split at the commas that are not inside parentheses."""
    terms, depth, start = [], 0, 0
    for place, character in enumerate(selector):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            terms.append(selector[start:place].strip())
            start = place + 1
    return list(filter(None, [*terms, selector[start:].strip()]))


def _label_test(term: str) -> _Test:
    if term.endswith(")"):
        key, _, values = term.removesuffix(")").partition("(")
        allowed = {value.strip() for value in values.split(",")}
        match key.split():
            case [name, "in"]:
                return lambda labels: labels.get(name) in allowed
            case [name, "notin"]:
                return lambda labels: labels.get(name) not in allowed
            case _:
                raise bad_request(f"unable to parse the label selector {term!r}")
    if "=" in term:
        key, value, equal = _comparison(term)
        return lambda labels: (labels.get(key) == value) is equal
    if term.startswith("!"):
        return lambda labels: term[1:].strip() not in labels
    return lambda labels: term in labels


def _field_test(term: str) -> _Test:
    """A test on a dotted path; raises ApiError 400 for a term that compares nothing."""
    if "=" not in term:
        raise bad_request(f"invalid field selector: {term!r}")
    path, value, equal = _comparison(term)

    def matches(item: Object) -> bool:
        found: object = item
        for part in path.split("."):
            found = found.get(part, "") if isinstance(found, dict) else ""
        return (found == value) is equal

    return matches


def _comparison(term: str) -> tuple[str, str, bool]:
    name, _, value = term.partition("=")
    equal = not name.endswith("!")
    return name.rstrip("!").strip(), value.lstrip("=").strip(), equal
