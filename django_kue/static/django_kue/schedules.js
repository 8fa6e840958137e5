// In the list of schedules: a box that ticks all. In the form: what a rule means, in words, while it's being typed.
// The pages work without this script.
"use strict";
(() => {
    const all = document.querySelector("[data-kue-all]");
    if (all) {
        all.hidden = false;
        all.addEventListener("change", () => {
            for (const box of all.form.querySelectorAll("tbody input[type=checkbox]")) {
                box.checked = all.checked;
            }
        });
    }

    const form = document.querySelector("form[data-kue-preview]");
    const row = form?.querySelector(".kue-preview");
    if (!row) {
        return;
    }
    const [words, next] = row.querySelector("output").children;
    const names = ["cron", "timezone", "every", "unit"];
    let timer = null;
    let asked = 0;

    async function preview() {
        const url = new URL(form.dataset.kuePreview, location.href);
        for (const name of names) {
            url.searchParams.set(name, form.elements[name].value);
        }
        const number = ++asked;
        try {
            const response = await fetch(url, {credentials: "same-origin"});
            const said = response.ok ? await response.json() : {words: "", next: ""};
            if (number === asked) { // nobody has typed anything since
                words.textContent = said.words;
                next.textContent = said.next;
                row.hidden = !said.words;
            }
        } catch (error) {
            row.hidden = true; // the site is away: saving will say so
        }
    }

    for (const name of names) {
        form.elements[name].addEventListener("input", () => {
            clearTimeout(timer);
            timer = setTimeout(preview, 250);
        });
    }
    preview();
})();
