// Send the browser's time zone with the sign-in form. Without it, pages use the customer's zone.
const zone = document.querySelector("input[name=zone]");
if (zone) zone.value = Intl.DateTimeFormat().resolvedOptions().timeZone;
