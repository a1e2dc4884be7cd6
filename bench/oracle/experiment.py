"""Writes experiment/tests/data/oracle.json: what gbstats and the published formulas say of fixed samples.

Run with the versions of experiment-requirements.txt: python3 bench/oracle/experiment.py > experiment/tests/data/oracle.json"""
import importlib.metadata
import json
import math
import random
import sys

import gbstats.frequentist.tests as gb
import gbstats.models.statistics as st
from scipy.special import gammaln

rng = random.Random(20261127)


def sample(count, shift):
    """Units: a metric, the same unit's past, and a denominator that goes with the metric."""
    units = []
    for _ in range(count):
        past = rng.gauss(10, 3)
        requests = rng.randint(5, 60)
        units.append((0.7 * past + rng.gauss(3 + shift, 1.5), past, requests, sum(rng.random() < 0.6 + shift / 50 for _ in range(requests))))
    return units


def moments(units, index):
    values = [unit[index] for unit in units]
    return st.SampleMeanStatistic(n=len(values), sum=sum(values), sum_squares=sum(v * v for v in values))


def products(units, one, other):
    return sum(unit[one] * unit[other] for unit in units)


def plain(units):
    return moments(units, 0)


def ratio(units):
    return st.RatioStatistic(n=len(units), m_statistic=moments(units, 3), d_statistic=moments(units, 2),
                             m_d_sum_of_products=products(units, 3, 2))


def adjusted(units, theta=0.0):
    return st.RegressionAdjustedStatistic(n=len(units), post_statistic=moments(units, 0), pre_statistic=moments(units, 1),
                                          post_pre_sum_of_products=products(units, 0, 1), theta=theta)


control, treated = sample(80, 0.0), sample(90, 0.8)
theta = st.compute_theta(adjusted(control), adjusted(treated))
pairs = {"mean": (plain(control), plain(treated)), "ratio": (ratio(control), ratio(treated)),
         "adjusted": (adjusted(control, theta), adjusted(treated, theta))}
cases = []
for name, (a, b) in pairs.items():
    for relative in (False, True):
        for alpha, tuning in ((0.05, 5000), (0.05, 150), (0.01, 500)):
            config = gb.SequentialConfig(alpha=alpha, sequential_tuning_parameter=tuning,
                                         difference_type="relative" if relative else "absolute")
            test = gb.SequentialTwoSidedTTest(a, b, config)
            low, high = test.confidence_interval
            cases.append({"summary": name, "relative": relative, "alpha": alpha, "units_planned": tuning,
                          "effect": float(test.point_estimate), "variance": float(test.variance), "low": float(low),
                          "high": float(high), "p_value": float(test.p_value)})


def dirichlet(shares, concentration, looks):
    """Lindon and Malek (2022), equation for the Bayes factor, look by look."""
    prior, evidence, found = [concentration * share for share in shares], 0.0, []
    for counts in looks:
        after = [p + c for p, c in zip(prior, counts)]
        evidence += gammaln(sum(prior)) - gammaln(sum(after)) + sum(
            gammaln(a) - gammaln(p) - c * math.log(s) for a, p, c, s in zip(after, prior, counts, shares))
        prior = after
        found.append(float(evidence))
    return found


looks = [[5021, 4979], [5100, 4900], [5150, 4850], [5200, 4800]]
three = [[200, 310, 480], [190, 320, 510], [260, 290, 430]]
shares = [{"shares": [0.5, 0.5], "concentration": 10000.0, "looks": looks, "log_evidence": dirichlet([0.5, 0.5], 10000, looks)},
          {"shares": [0.2, 0.3, 0.5], "concentration": 100.0, "looks": three,
           "log_evidence": dirichlet([0.2, 0.3, 0.5], 100, three)}]

mixtures = []
for optimum, alpha, variance, total in ((100, 0.05, 37.5, 12.0), (1e4, 0.01, 123456.0, 900.0), (5, 0.05, 0.0, 1.0)):
    # Howard et al. (2021), proposition 5 and its equation for the best rho.
    rho = optimum / (2 * math.log(1 / alpha) + math.log(1 + 2 * math.log(1 / alpha)))
    bound = math.sqrt((variance + rho) * (math.log(1 + variance / rho) + 2 * math.log(1 / alpha)))
    mixtures.append({"optimum": optimum, "alpha": alpha, "variance": variance, "sum": total, "bound": bound,
                     "log_evidence": 0.5 * math.log(rho / (variance + rho)) + total**2 / (2 * (variance + rho))})


def design(outcomes, share, planned, alpha):
    """Ham et al. (2210.08639): Horvitz-Thompson scores, their bound, and the interval after the last."""
    scores = [y * (w / share - (1 - w) / (1 - share)) for y, w in outcomes]
    bound = sum(y * y * (w / share**2 + (1 - w) / (1 - share) ** 2) for y, w in outcomes)
    eta2 = (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / planned
    count = len(outcomes)
    half = math.sqrt((bound * eta2 + 1) / eta2 * math.log((bound * eta2 + 1) / alpha**2)) / count
    return {"outcomes": outcomes, "share": share, "planned": planned, "alpha": alpha, "estimate": sum(scores) / count,
            "half_width": half}


designs = [design([[rng.gauss(0.6, 0.1), int(rng.random() < share)] for _ in range(30)], share, planned, alpha)
           for share, planned, alpha in ((0.5, 40.0, 0.05), (0.3, 100.0, 0.01))]
versions = {name: importlib.metadata.version(name) for name in ("gbstats", "scipy")}
json.dump({"made_by": "bench/oracle/experiment.py", "versions": versions, "control": control, "treated": treated,
           "theta": float(theta), "asymptotic": cases, "shares": shares, "mixtures": mixtures, "designs": designs},
          sys.stdout)
print()
