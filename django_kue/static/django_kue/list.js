// The list of jobs, kept up to date. Cells are regions that `live.js` swaps, so ticked boxes stay as they are:
// Django's `actions.js` holds on to the boxes that it found, and rows must not be replaced behind its back.
//
// When the jobs on the page change, the whole form is replaced, and `Actions` is set up again. But if somebody has
// ticked something, is in the form, or looks at a later page, they're only told how many changes there are, with a
// link that shows them.
"use strict";
(() => {
    const FORM = "changelist-form";
    const later = new URLSearchParams(location.search).get("p") > 1;
    const seen = new Set(); // jobs that came or went since the list was shown

    function idsOf(page) {
        return [...page.querySelectorAll(`#${FORM} [data-kue-id]`)].map((element) => element.dataset.kueId);
    }

    function isUntouched(form) {
        return !later && !form.contains(document.activeElement) && !form.querySelector("input.action-select:checked") &&
            !form.querySelector(".select-across[value='1']");
    }

    function replace(form, incoming) {
        const chosen = form.querySelector("select[name=action]")?.value;
        // This page's CSRF token is as good as the new one, but the cookie may have been renewed.
        form.innerHTML = incoming.innerHTML;
        const select = form.querySelector("select[name=action]");
        if (select && [...select.options].some((option) => option.value === chosen)) {
            select.value = chosen;
        }
        const boxes = form.querySelectorAll("tr input.action-select");
        if (boxes.length && window.Actions) {
            window.Actions(boxes);
        }
        seen.clear();
    }

    function tell(form, before, after) {
        const there = new Set(after);
        const known = new Set(before);
        for (const id of [...before.filter((id) => !there.has(id)), ...after.filter((id) => !known.has(id))]) {
            seen.add(id);
        }
        for (const row of form.querySelectorAll("#result_list tbody tr")) {
            const id = row.querySelector("[data-kue-id]")?.dataset.kueId;
            row.classList.toggle("kue-gone", Boolean(id) && !there.has(id));
        }
        const news = form.querySelector("[data-kue-news]");
        if (!news || !seen.size) {
            return;
        }
        const text = seen.size === 1 ? news.dataset.one : news.dataset.many.replace("%n", seen.size.toLocaleString());
        if (news.firstElementChild.textContent !== text) {
            news.firstElementChild.textContent = text;
        }
        news.hidden = false;
    }

    document.addEventListener("kue:fetched", (event) => {
        const form = document.getElementById(FORM);
        const incoming = event.detail.getElementById(FORM);
        if (!form || !incoming) {
            return;
        }
        const before = idsOf(document);
        const after = idsOf(event.detail);
        if (before.join(" ") === after.join(" ")) {
            return;
        }
        if (isUntouched(form)) {
            replace(form, incoming);
        } else {
            tell(form, before, after);
        }
    });
})();
