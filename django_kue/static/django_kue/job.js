// The page of one job: copying, own frames, and a log that grows without losing its place.
// Everything can be read without this script; what needs it is hidden until it runs.
"use strict";
(() => {
    const page = document.querySelector(".kue-job");
    if (!page) {
        return;
    }

    // ── copying ──

    async function copy(text) {
        if (navigator.clipboard && window.isSecureContext) {
            await navigator.clipboard.writeText(text);
            return;
        }
        const area = document.createElement("textarea"); // over plain http there's no other way
        area.value = text;
        area.className = "kue-said";
        document.body.append(area);
        area.select();
        const isDone = document.execCommand("copy");
        area.remove();
        if (!isDone) {
            throw new Error("the browser refused to copy");
        }
    }

    function select(element) {
        const range = document.createRange();
        range.selectNodeContents(element);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
    }

    async function onCopy(button) {
        const source = document.getElementById(button.dataset.kueCopy);
        try {
            await copy(source.textContent.trim());
        } catch (error) {
            select(source); // now one key press copies it
            return;
        }
        button.focus({preventScroll: true});
        button.dataset.label ??= button.textContent;
        button.textContent = button.dataset.copied;
        setTimeout(() => {
            button.textContent = button.dataset.label;
        }, 1500);
    }

    // ── own frames ──

    let isOwnOnly = false;

    function showFrames() {
        for (const button of page.querySelectorAll("[data-kue-frames]")) {
            button.setAttribute("aria-pressed", String(isOwnOnly));
            document.getElementById(button.dataset.kueFrames)?.classList.toggle("kue-own-only", isOwnOnly);
        }
    }

    document.addEventListener("click", (event) => {
        const copying = event.target.closest("[data-kue-copy]");
        if (copying) {
            onCopy(copying);
        }
        if (event.target.closest("[data-kue-frames]")) {
            isOwnOnly = !isOwnOnly;
            showFrames();
        }
    });

    // ── the log ──

    const logs = document.getElementById("kue-logs");
    const log = document.getElementById("kue-log");
    const filter = document.getElementById("kue-log-filter");
    const tail = document.getElementById("kue-log-tail");
    const most = Number(logs.dataset.kueLogs);

    function followTail() {
        if (tail.checked) {
            log.scrollTop = log.scrollHeight;
        }
    }

    function applyFilter() {
        const wanted = filter.value.toLowerCase();
        let shown = 0;
        for (const line of log.children) {
            line.hidden = wanted !== "" && !line.textContent.toLowerCase().includes(wanted);
            shown += line.hidden ? 0 : 1;
        }
        logs.querySelector(".kue-log-none").hidden = shown > 0 || log.children.length === 0;
        logs.querySelector(".kue-log-empty").hidden = log.children.length > 0;
        logs.querySelector(".kue-log-tools").hidden = log.children.length === 0;
        log.hidden = log.children.length === 0;
        followTail();
    }

    const keyOf = (line) => line.firstElementChild.getAttribute("datetime") + line.textContent;

    // How many of the incoming lines are shown already: the longest end of what's shown that they begin with.
    function overlap(shown, incoming) {
        for (let length = Math.min(shown.length, incoming.length); length > 0; length--) {
            const start = shown.length - length;
            let at = 0;
            while (at < length && shown[start + at] === incoming[at]) {
                at++;
            }
            if (at === length) {
                return length;
            }
        }
        return 0;
    }

    function gap() {
        const line = document.createElement("li");
        const time = document.createElement("time");
        time.setAttribute("datetime", "");
        line.className = "kue-quiet";
        line.append(time, log.dataset.gap);
        return line;
    }

    function take(incoming) {
        const shown = [...log.children].map(keyOf);
        const lines = [...incoming.children];
        const keys = lines.map(keyOf);
        // After a gap, the newest line may still be in the middle of a page that was loaded as a whole.
        const known = overlap(shown, keys) || keys.lastIndexOf(shown.at(-1)) + 1;
        if (known === lines.length) {
            return;
        }
        if (known === 0 && shown.length) {
            log.append(gap());
        }
        log.append(...lines.slice(known).map((line) => document.importNode(line, true)));
        while (log.children.length > most) {
            log.firstElementChild.remove();
            logs.querySelector(".kue-log-cut").hidden = false;
        }
        applyFilter();
    }

    filter.addEventListener("input", applyFilter);
    tail.addEventListener("change", followTail);
    log.addEventListener("scroll", () => {
        // Whoever scrolls up wants to read; whoever scrolls to the end wants to follow.
        tail.checked = log.scrollHeight - log.scrollTop - log.clientHeight < 8;
    });
    document.addEventListener("kue:fetched", (event) => {
        const incoming = event.detail.getElementById("kue-log");
        if (incoming) {
            take(incoming);
        }
    });

    // ── show what needs this script ──

    function reveal() {
        for (const tool of page.querySelectorAll("[data-kue-copy], [data-kue-frames]")) {
            tool.hidden = false;
        }
        showFrames();
    }

    document.addEventListener("kue:swapped", reveal);
    reveal();
    applyFilter();
})();
