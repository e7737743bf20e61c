// Send the browser's time zone with the sign-in form. Without it, pages use the customer's zone.
const zone = document.querySelector("input[name=zone]");
if (zone) zone.value = Intl.DateTimeFormat().resolvedOptions().timeZone;

// Copy buttons exist only where the browser can copy.
for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });
}

// A file that is too large is not sent: the server would close the connection.
for (const input of document.querySelectorAll("[data-max-bytes]")) {
  input.addEventListener("change", () => {
    const file = input.files[0];
    const isTooLarge = file && file.size > Number(input.dataset.maxBytes);
    input.setCustomValidity(isTooLarge ? input.dataset.tooLarge : "");
    input.reportValidity();
  });
}

// Reading a sheet takes seconds. The note disappears if the page is shown again from the history.
const busy = (form) => document.getElementById(form.dataset.busy);
for (const form of document.querySelectorAll("[data-busy]")) {
  form.addEventListener("submit", () => busy(form)?.classList.add("is-shown"));
  window.addEventListener("pageshow", () => busy(form)?.classList.remove("is-shown"));
}
