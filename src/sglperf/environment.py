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
    """

    check: EnvironmentCheck
    device: str
    ranks: int

    def require(self, area: str) -> None:
        """Nothing is missing that the area's tests need here.

        Raises:
            pytest.fail.Exception: something is; what, and the next action.
            pytest.skip.Exception: the profile asks for nothing of the area.
        """
        import pytest  # whoever uses the package outside of pytest need not load it

        if area == "tp" and self.ranks < 2:
            pytest.skip("the profile has no TP set of several ranks")
        readiness = next(one for one in self.check.areas if one.area == area)
        lacking = readiness.cpu if self.device == "cpu" else readiness.gpu
        if lacking:
            pytest.fail("; ".join(finding.sentence for finding in lacking), pytrace=False)
