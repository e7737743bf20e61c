// Tells the sign-in form which time zone its reader is in; pages without it are in the customer's.
const zone = document.querySelector("input[name=zone]");
if (zone) zone.value = Intl.DateTimeFormat().resolvedOptions().timeZone;
