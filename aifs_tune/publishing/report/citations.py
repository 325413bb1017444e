"""References that a report cites, and the sampler and scheduler texts that cite them."""

from __future__ import annotations

import re
from collections.abc import Iterable

REFERENCES: dict[str, str] = {
    "abadi2016": "Abadi et al.: TensorFlow: a system for large-scale machine learning. OSDI 2016. arXiv:1605.08695",
    "akiba2019": "Akiba, Sano, Yanase, Ohta, Koyama: Optuna: a next-generation hyperparameter optimization framework. "
    "KDD 2019. doi:10.1145/3292500.3330701",
    "bergstra2011": "Bergstra, Bardenet, Bengio, Kégl: Algorithms for hyper-parameter optimization. NIPS 2011.",
    "chollet2015": "Chollet et al.: Keras. 2015. https://keras.io",
    "deb2002": "Deb, Pratap, Agarwal, Meyarivan: A fast and elitist multiobjective genetic algorithm: NSGA-II. IEEE "
    "Transactions on Evolutionary Computation 6, 2002. doi:10.1109/4235.996017",
    "deb2014": "Deb, Jain: An evolutionary many-objective optimization algorithm using reference-point-based "
    "nondominated sorting approach, part I. IEEE Transactions on Evolutionary Computation 18, 2014. "
    "doi:10.1109/TEVC.2013.2281535",
    "efron1993": "Efron, Tibshirani: An introduction to the bootstrap. Chapman and Hall, 1993.",
    "golovin2017": "Golovin, Solnik, Moitra, Kochanski, Karro, Sculley: Google Vizier: a service for black-box "
    "optimization. KDD 2017. doi:10.1145/3097983.3098043",
    "hansen2001": "Hansen, Ostermeier: Completely derandomized self-adaptation in evolution strategies. Evolutionary "
    "Computation 9, 2001. doi:10.1162/106365601750190398",
    "holm1979": "Holm: A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6, "
    "1979.",
    "hutter2014": "Hutter, Hoos, Leyton-Brown: An efficient approach for assessing hyperparameter importance. ICML "
    "2014.",
    "jaderberg2017": "Jaderberg et al.: Population based training of neural networks. 2017. arXiv:1711.09846",
    "li2018": "Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar: Hyperband: a novel bandit-based approach to "
    "hyperparameter optimization. Journal of Machine Learning Research 18, 2018.",
    "li2020": "Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht, Talwalkar: A system for massively parallel "
    "hyperparameter tuning. MLSys 2020. arXiv:1810.05934",
    "liaw2018": "Liaw, Liang, Nishihara, Moritz, Gonzalez, Stoica: Tune: a research platform for distributed model "
    "selection and training. 2018. arXiv:1807.05118",
    "nadeau2003": "Nadeau, Bengio: Inference for the generalization error. Machine Learning 52, 2003. "
    "doi:10.1023/A:1024068626366",
    "naeini2015": "Naeini, Cooper, Hauskrecht: Obtaining well calibrated probabilities using Bayesian binning. AAAI "
    "2015.",
    "pedregosa2011": "Pedregosa et al.: Scikit-learn: machine learning in Python. Journal of Machine Learning "
    "Research 12, 2011.",
    "rasmussen2006": "Rasmussen, Williams: Gaussian processes for machine learning. MIT Press, 2006.",
    "sobol1967": "Sobol: On the distribution of points in a cube and the approximate evaluation of integrals. USSR "
    "Computational Mathematics and Mathematical Physics 7, 1967. doi:10.1016/0041-5553(67)90144-9",
    "watanabe2023": "Watanabe, Bansal, Hutter: PED-ANOVA: efficiently quantifying hyperparameter importance in "
    "arbitrary subspaces. IJCAI 2023. doi:10.24963/ijcai.2023/488",
    "wilson1927": "Wilson: Probable inference, the law of succession, and statistical inference. Journal of the "
    "American Statistical Association 22, 1927. doi:10.1080/01621459.1927.10502953",
    "wilcoxon1945": "Wilcoxon: Individual comparisons by ranking methods. Biometrics Bulletin 1, 1945. "
    "doi:10.2307/3001968",
}

SAMPLER: dict[str, tuple[str, tuple[str, ...]]] = {
    "aifs": ("a Gaussian process over configurations and epochs, with expected improvement", ("rasmussen2006",)),
    "tpe": ("a tree-structured Parzen estimator", ("bergstra2011", "akiba2019")),
    "gp": ("a Gaussian process", ("rasmussen2006", "akiba2019")),
    "cmaes": ("the covariance matrix adaptation evolution strategy (CMA-ES)", ("hansen2001", "akiba2019")),
    "qmc": ("a scrambled Sobol sequence", ("sobol1967", "akiba2019")),
    "nsga2": ("the multi-objective genetic algorithm NSGA-II", ("deb2002", "akiba2019")),
    "nsga3": ("the multi-objective genetic algorithm NSGA-III", ("deb2014", "akiba2019")),
    "grid": ("a grid search", ("akiba2019",)),
    "brute_force": ("an exhaustive search of all configurations", ("akiba2019",)),
    "random": ("uniform random sampling", ("akiba2019",)),
}
"""Description and citations of each sampler."""

SCHEDULER: dict[str, tuple[str, tuple[str, ...]]] = {
    "aifs": (
        "stopped early because they ranked in the worse half at an epoch, or the same model expected one more epoch to "
        "gain less than one epoch of a new configuration",
        (),
    ),
    "asha": ("stopped early by asynchronous successive halving", ("li2020",)),
    "hyperband": ("stopped early by asynchronous Hyperband", ("li2018",)),
    "median": ("stopped early when they were worse than the median of the other trials", ("golovin2017",)),
    "pbt": ("trained as one population, in which the worst trials copied the weights of the best", ("jaderberg2017",)),
}
"""What each scheduler did with the trials, and its citations."""


def cited(keys: Iterable[str]) -> str:
    """Citations in brackets after a space, such as `` [nadeau2003, holm1979]``; empty without keys."""
    found = list(keys)
    return f" [{', '.join(found)}]" if found else ""


def references_in(texts: Iterable[str]) -> tuple[str, ...]:
    """References whose keys are cited in brackets in ``texts``, sorted by key."""
    named = {key.strip() for text in texts for group in re.findall(r"\[([^\[\]]*)\]", text) for key in group.split(",")}
    return tuple(f"[{key}] {work}" for key, work in sorted(REFERENCES.items()) if key in named)
