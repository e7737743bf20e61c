"""Tells people what needs their attention: by mail, Slack, Teams and other services of Apprise.

`manage` is what admins do. `facts` reads what happened, `collect` stores messages about it, `send`
sends them, and `service` does all of it between the deliveries of `flask deliver`. `conditions`,
`plan`, `texts` and `digest` are pure. Only `addresses` calls Apprise, and `guard` limits what
Apprise may contact.
"""
