"""Sends what happened to other systems: webhooks to programs.

`webhooks` is what admins do, `deliver` is the service that sends, `attempts` stores the result of
each attempt. `post` sends one request to an address that `addresses` allows, signed by
`signatures`.
"""
