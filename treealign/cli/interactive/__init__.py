"""`treealign suggest --interactive`: one question a screen, one key an answer.

`dialogue` is what happens at each key, `screen` what is shown: neither knows a terminal. `terminal` joins them to one.
"""
