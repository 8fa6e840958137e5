// Makes code that's wider than its box scrollable with the keyboard, too.
for (const code of document.querySelectorAll("pre")) {
  if (code.scrollWidth > code.clientWidth) code.tabIndex = 0;
}
