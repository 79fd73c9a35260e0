"""How the running Pants is called: the one room that knows which Pants it is.

Rules are declared and called in the way of Pants 2.30 and newer, by name: `await make_base_layer(request, **implicitly())`.
Pants 2.17, which knows rules by their types, gets the same calls through adapters.

    version        which of the two ways the running Pants takes
    rules          `rule`, `implicitly`, `concurrently` ... for both
    rules_by_type  the same for Pants 2.17
    calls          Pants' own rules, as functions, for both
    calls_by_type  the same for Pants 2.17
    calls_by_name  the same for Pants 2.30 and newer
"""
