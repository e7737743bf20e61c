"""Messages to people about their budgets: by mail, Slack, Teams and other services of Apprise.

`manage` has the actions of admins. `facts` reads the events, `collect` stores messages about them,
`send` sends them, and `service` does all of it between the deliveries of `flask deliver`.
`conditions`, `plan`, `texts` and `digest` are pure. Only `addresses` calls Apprise, and `guard`
limits what Apprise may contact.
"""
