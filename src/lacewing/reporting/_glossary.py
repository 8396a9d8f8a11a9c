"""The terms that a report uses, and what they mean."""

GLOSSARY = (
    ("Member, non-member", "a record the network was trained on; a record from the same source it was not trained on."),
    (
        "Attack accuracy A",
        "how often an attacker tells members from non-members rightly, both weighing the same; 50\u202f% is guessing.",
    ),
    ("Defence D", "2 (1 − A): 100\u202f% where the attack guesses, 0 where it is always right."),
    ("Advantage", "2A − 1, the true-positive minus the false-positive rate: 0 where the attack guesses."),
    (
        "Density",
        "non-zero parameters over all parameters of the dense network; prunable density counts only weights "
        "that the method may set to zero.",
    ),
    (
        "IMP",
        "iterative magnitude pruning: train, set the smallest weights to zero, rewind the rest, train again; repeat.",
    ),
    ("Butterfly", "convolutions replaced by products of a few sparse factors of fixed structure."),
    (
        "Relative loss, relative gain",
        "change against the dense network of the same seed, as a share of the dense network's accuracy or defence.",
    ),
    (
        "Slope",
        "mean relative gain in defence over mean relative loss in accuracy; 3.6 says 3.6\u202f% gained for each per "
        "cent lost.",
    ),
    (
        "Fieller's set",
        "all slopes that the seeds do not rule out; without an upper end where the mean loss may be 0.",
    ),
    ("Seed, cut", "one repetition with its own records and start; a cut is two seeds on complementary halves."),
    (
        "Family, recipe",
        "networks that differ in one thing, such as the density; a recipe is one of them over its seeds.",
    ),
    (
        "Control",
        "a network that is compared with sparse ones to tell what else lowers the leak: a shorter training, less "
        "width, more weight decay, a mask that was not learnt.",
    ),
    (
        "Random, shuffled, reinitialised mask",
        "controls of a pruned network: weights kept at random, as many in each layer; its mask shuffled within each "
        "layer; its mask on fresh weights.",
    ),
    ("Ticket", "a network trained with the mask of another one, which learnt it, on that one's original weights."),
    (
        "DP-SGD",
        "training that clips the gradient of each record and adds noise, which bounds what any attack can find.",
    ),
    (
        "Epsilon, delta",
        "how much one record may change what DP-SGD makes: the smaller, the less any attack can find; delta is "
        "roughly the probability that the bound does not hold.",
    ),
    (
        "Frontier",
        "the recipes of a kind, here of controls, that no other of them beats in both accuracy and leak.",
    ),
    (
        "Log-odds",
        "ln(p / (1 − p)) of the probability p that a network gives to a record's class; members' tend to be larger. "
        "Its unit is the nat.",
    ),
    (
        "Declared, exploratory",
        "a declared question was named in the study file before the study ran; every other number is exploratory.",
    ),
    (
        "Smallest detectable difference",
        "the true difference that 80\u202f% of studies like this one would find, tested at 5\u202f%.",
    ),
    ("Target, shadow", "the attacked network; a network trained alike on other records, on which the attacker learns."),
    ("Pareto front", "the networks that no other one beats in both accuracy and defence."),
    (
        "ROC, TPR at FPR",
        "the share of members found (true-positive rate) for each share of non-members wrongly accused "
        "(false-positive rate).",
    ),
    (
        "Oracle A",
        "the best of all attack variants, chosen on the target itself: an upper bound, as no attacker can choose so.",
    ),
    (
        "AUC",
        "the area under the ROC: how often a member's score is above a non-member's; 0.5 is guessing, 1 is always.",
    ),
    (
        "Reference",
        "a network of known membership that was asked about the same records; a shadow is one on which thresholds are "
        "chosen.",
    ),
    ("Adaptive attacker", "one who knows how the network was made sparse, and uses it."),
    ("Canary", "a record mislabelled on purpose before training, to see whether it can be found."),
    (
        "95\u202f% interval",
        "the range of values that these seeds do not rule out; where it is said to be over records, that these records "
        "do not.",
    ),
)
