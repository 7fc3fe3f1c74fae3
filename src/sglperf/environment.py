"""What a perf test asks of the environment: that an area's tests have all they need."""

from __future__ import annotations

from dataclasses import dataclass

from sglperf.core.environment_check import EnvironmentCheck


@dataclass(frozen=True)
class Environment:
    """The ``environment`` fixture.

    Attributes:
        check: the machine, the target's installation, and what they lack.
        device: the profile's, ``cpu`` or ``cuda``.
        ranks: of its largest TP set.
        others: of the other hosts, where shards were measured on several.
    """

    check: EnvironmentCheck
    device: str
    ranks: int
    others: tuple[EnvironmentCheck, ...] = ()

    def require(self, area: str) -> None:
        """Nothing is missing that the area's tests need here.

        Raises:
            pytest.fail.Exception: something is; what, and the next action.
            pytest.skip.Exception: the profile asks for nothing of the area.
        """
        import pytest  # whoever uses the package outside of pytest need not load it

        if area == "tp" and self.ranks < 2:
            pytest.skip("the profile has no TP set of several ranks")
        found = [one for check in (self.check, *self.others) for one in check.areas if one.area == area]
        lacking = [finding for one in found for finding in (one.cpu if self.device == "cpu" else one.gpu)]
        if lacking:
            said = dict.fromkeys(finding.sentence for finding in lacking)
            pytest.fail("; ".join(said), pytrace=False)
