// Asks twice a second how far the customer's jobs are, and stops when all are finished.
"use strict";

const list = document.getElementById("jobs");
const EVERY = 500; // milliseconds
const AFTER_TROUBLE = 5000;

function part(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function line(...parts) {
  const element = part("div", "line");
  element.append(...parts);
  return element;
}

function item(job) {
  const bar = document.createElement("progress");
  bar.max = 100;
  bar.setAttribute("aria-label", job.title);
  const element = part("li", "job");
  element.dataset.id = job.id;
  element.append(
    line(part("strong", "title", job.title), part("span", "state")),
    bar,
    line(part("span", "note"), part("span", "files")),
  );
  return element;
}

function show(job) {
  let element = [...list.children].find((child) => child.dataset.id === job.id);
  if (!element) {
    element = item(job);
    list.append(element);
  }
  element.className = `job ${job.state}`;
  element.querySelector("progress").value = job.progress;
  element.querySelector(".state").textContent = job.state;
  element.querySelector(".note").textContent = job.note;
  element.querySelector(".files").replaceChildren(
    ...job.files.map((file) => {
      const link = part("a", "", file.label);
      link.href = file.url;
      return link;
    }),
  );
}

async function look() {
  let wait = EVERY;
  try {
    const answer = await fetch(list.dataset.url, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
    const { jobs } = await answer.json();
    jobs.forEach(show);
    document.getElementById("empty").hidden = jobs.length > 0;
    if (jobs.every((job) => job.finished)) return;
  } catch (error) {
    console.warn("No news of the jobs:", error);
    wait = AFTER_TROUBLE;
  }
  setTimeout(look, wait);
}

look();
