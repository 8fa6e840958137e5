// Code that's wider than its box can be scrolled with the keyboard, too.
for (const code of document.querySelectorAll("pre")) {
  if (code.scrollWidth > code.clientWidth) code.tabIndex = 0;
}
