"""Registries and the message for an unknown name."""

from __future__ import annotations

from minidassl.utils import Registry, check_availability

import pytest


@pytest.fixture
def registry() -> Registry:
    registry = Registry("DATASET")

    @registry.register()
    class Pets: ...

    return registry


def test_a_decorated_class_stays_itself_and_is_found_by_name(registry):
    @registry.register()
    class Digits: ...

    assert registry.get("Digits") is Digits
    assert registry.registered_names() == ["Pets", "Digits"]


def test_the_call_form_and_a_decorator_without_parentheses_return_the_object(registry):
    @registry.register
    class Digits: ...

    def Flowers(): ...

    assert registry.register(Flowers) is Flowers
    assert registry.get("Digits").__name__ == "Digits" and registry.get("Flowers") is Flowers


def test_a_second_object_of_the_same_name_needs_force(registry):
    class Pets: ...

    with pytest.raises(KeyError, match='An object named "Pets" was already registered in "DATASET" registry'):
        registry.register(Pets)
    registry.register(Pets, force=True)
    assert registry.get("Pets") is Pets


def test_an_unknown_name_is_a_key_error_that_names_the_registry(registry):
    with pytest.raises(KeyError, match='Object name "zzz" does not exist in "DATASET" registry'):
        registry.get("zzz")


def test_check_availability_lists_the_choices_and_guesses():
    check_availability("MaPLe", ["MaPLe", "CoOp"])
    with pytest.raises(ValueError, match=r"'Maple'.*\['CoOp', 'MaPLe'\]; did you mean 'MaPLe'\?"):
        check_availability("Maple", ["CoOp", "MaPLe"])
    with pytest.raises(ValueError) as error:
        check_availability("xyz", ["CoOp"])
    assert "did you mean" not in str(error.value)
