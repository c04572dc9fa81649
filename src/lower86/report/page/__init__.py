"""The report of a model as one HTML page.

`data` gathers the facts, `graph` and `charts` draw them, `render` makes the page of it, `write` is what users call.
Nothing here knows torch. What is in a model's file is hostile until it is escaped: names go through `data.clean`, then
through the template's escaping; the page's own policy lets no other script run than its own, and nothing be fetched.
"""
