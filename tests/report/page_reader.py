"""Reads a report the way a strict browser would: every tag closed in order, every address noted."""

from html.parser import HTMLParser

VOID = {"br", "hr", "img", "input", "link", "meta"}


class PageReader(HTMLParser):
    """Tree facts of a page: sections with their text, ids, elements by name, and what it would load."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.sections, self.elements, self.text = [], [], {}, [], ""
        self._section = None
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, name, attributes):
        attributes = dict(attributes)
        self.elements.append((name, attributes))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if name == "section":
            assert self._section is None, "sections do not nest"
            self._section = attributes["id"]
            self.sections[self._section] = ""
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open and self.open[-1] == name, f"</{name}> closes {self.open[-1:]}"
        self.open.pop()
        if name == "section":
            self._section = None

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            return
        self.text += data
        if self._section:
            self.sections[self._section] += data

    def all(self, name, **wanted):
        """Attributes of every element of a name whose attributes contain these words."""
        return [
            a for n, a in self.elements if n == name and all(w in (a.get(k) or "").split() for k, w in wanted.items())
        ]
