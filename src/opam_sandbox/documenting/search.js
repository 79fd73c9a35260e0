// Finds entries (kind, name, place, what is said of it) by the words of a query: each word is in the name. Names that are the
// query come first, then those that begin with it, then the rest; of these the shorter ones.
(function () {
  "use strict";
  var MOST = 100;
  var field = document.getElementById("search");
  var results = document.getElementById("results");
  var found = document.getElementById("found");
  var names = odocEntries.map(function (entry) { return entry[1].toLowerCase(); });

  function rank(name, query) {
    var last = name.slice(name.lastIndexOf(".") + 1);
    if (name === query || last === query) return 0;
    if (last.indexOf(query) === 0) return 1;
    return name.indexOf(query) >= 0 ? 2 : 3;
  }

  function matches(query) {
    var words = query.split(/\s+/).filter(Boolean);
    var hits = [];
    if (!words.length) return hits;
    for (var i = 0; i < names.length; i++) {
      var name = names[i];
      if (words.every(function (word) { return name.indexOf(word) >= 0; })) hits.push([rank(name, query), name.length, i]);
    }
    return hits.sort(function (a, b) { return a[0] - b[0] || a[1] - b[1] || a[2] - b[2]; });
  }

  function span(kind, text) {
    var made = document.createElement("span");
    made.className = kind;
    made.textContent = text;
    return made;
  }

  function show() {
    var query = field.value.trim().toLowerCase();
    var hits = matches(query);
    results.textContent = "";
    hits.slice(0, MOST).forEach(function (hit) {
      var entry = odocEntries[hit[2]];
      var item = document.createElement("li");
      var link = document.createElement("a");
      link.href = entry[2];
      link.appendChild(document.createElement("code")).textContent = entry[1];
      item.append(link, span("kind", " " + entry[0]), span("said", entry[3] ? " " + entry[3] : ""));
      results.appendChild(item);
    });
    found.textContent = !query ? "" : hits.length > MOST ? hits.length + " found, the first " + MOST + " of them:" :
      hits.length + " found";
  }

  field.addEventListener("input", show);
  show();
})();
