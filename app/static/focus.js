// Where the focus goes when its control disappears: without this, to the top of the page.

/** Make a change; if it hides the focused control of `element`, `next` gets the focus. */
export function keepFocus(element, next, change) {
  const focused = document.activeElement;
  change();
  if (element.contains(focused) && focused.closest("[hidden]")) next.focus({ preventScroll: true });
}
