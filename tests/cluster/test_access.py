"""Every service account, asked of the API server: what it may do, and that it may do nothing else."""

from __future__ import annotations

import pytest

from tests.support.cluster.checkout import TRIAL_NAMESPACE, Checkout, with_option
from tests.support.cluster.kubectl import apply, get, kubectl
from tests.support.cluster.permission import MAY, permitted


@pytest.fixture(scope="module")
def gate(checkout: Checkout, installed: list[str]) -> None:
    """The option `gate`, in the trial environment."""
    apply(with_option(checkout, "gate"))


@pytest.mark.parametrize("account", MAY)
def test_an_account_may_what_it_needs_and_nothing_else(gate: None, account: str) -> None:
    assert permitted(account, TRIAL_NAMESPACE) == MAY[account]
    assert permitted(account, "sluice-prod") == set()


def test_only_the_gate_may_change_what_it_remembers_and_only_in_its_own_namespace(gate: None) -> None:
    memory = {(verb, "configmaps") for verb in ("get", "patch")}
    assert permitted("gate", TRIAL_NAMESPACE, named="gate-seen") == MAY["gate"] | memory
    assert permitted("model-server", TRIAL_NAMESPACE, named="gate-seen") == set()
    assert permitted("gate", "sluice-prod", named="gate-seen") == set()


def test_no_account_is_forgotten_and_no_token_is_mounted_by_default(gate: None) -> None:
    accounts = {found["metadata"]["name"]: found for found in get("-n", TRIAL_NAMESPACE, "serviceaccounts")["items"]}
    assert set(accounts) == set(MAY)
    assert all(accounts[name]["automountServiceAccountToken"] is False for name in ("gate", "model-server"))
    bound = {found["metadata"]["name"] for found in get("-n", TRIAL_NAMESPACE, "rolebindings")["items"]}
    assert bound == {"gate"}
    kubectl("-n", TRIAL_NAMESPACE, "delete", "cronjob", "gate")
