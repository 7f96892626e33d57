<%
# A project, with one of its releases. Besides root, asset and query (see layout.tpl):
#   project   .name, .versions, .files, .status, .reason       name      as the project spells it
#   version   of the release shown       latest     the newest version
#   release   None, or the release shown; releases: all, the newest first. Each has .version, .href, .uploaded (None or
#             a datetime), .files (how many), .size, .python, .yanked (None, or the reason)
#   about     what the release says: about.text("summary"), about.listed("classifiers"), about.people() (.name, .mail),
#             about.licence(), about.links() (label, address)
#   description   HTML, safe; unread: whether it could not be had this time
#   stale     None, or the minutes since an upstream said this that does not answer now
#   files     of the release, each with .file (.filename, .uploaded, .requires_python, .yanked, .core_metadata,
#             .has_signature, .provenance), .href, .size, .digest (None, or algorithm and digest), .origin and
#             .published (None, or .who published it and .when)
#   hidden    files of all releases that are not shown here, each with .filename and .why; more_hidden: how many there are
#             besides
#   needed    dependencies by extra, each with .extra and .dependencies (pairs: .name and .text; whether it is here)
#   install   lines to copy, each with .tool and .text
#   acts      what whoever signed in may do to this release, pairs of a text and a link
#   here, json, simple   links to the project itself, to its facts and to its simple page
#   size      size(1000) is "1.0 kB"
rebase("layout", title=(name + " " + version).strip())
day = lambda moment: moment.strftime("%d %b %Y") if moment else ""
iso = lambda moment: moment.isoformat(timespec="seconds")
people, links, licence, keywords = about.people(), about.links(), about.licence(), about.listed("keywords")
%>
<div class="title">
  <h1><bdi>{{name}}</bdi> <span class="version"><bdi>{{version}}</bdi></span></h1>
% if about.text("summary"):
  <p class="lead"><bdi>{{about.text("summary")}}</bdi></p>
% end
</div>
% if project.status != "active":
<p class="note">This project is <b>{{project.status}}</b>{{": " if project.reason else ""}}<bdi>{{project.reason or ""}}</bdi>.
%   if project.status == "quarantined":
  Its files are not offered.
%   end
</p>
% end
% if release and release.yanked is not None:
<p class="note">This release was <b>yanked</b>{{", for this reason: " if release.yanked else ""}}<bdi>{{release.yanked}}</bdi>. Installers pass it over unless exactly this version is asked for.</p>
% end
% if version != latest:
<p class="note">The newest release is <a href="{{here}}">{{latest}}</a>.</p>
% end
% if stale is not None:
<p class="note">The upstream does not answer. This is what it said {{"a moment" if stale < 1 else "{:,} minute{}".format(stale, "" if stale == 1 else "s")}} ago.</p>
% end
% if unread and version:
<p class="note">What this release says of itself could not be had just now.</p>
% end

<div class="columns">
<div>
% if files:
<section aria-labelledby="install">
  <h2 id="install">Install</h2>
  % include("lines", commands=install)
</section>
% end

<section aria-labelledby="description">
  <h2 id="description">Description</h2>
% if description:
  <div class="readme" dir="auto">{{!description}}</div>
% else:
  <p class="quiet">This release has no description.</p>
% end
</section>

<section aria-labelledby="files">
  <h2 id="files">Files</h2>
% if not files:
  <p class="quiet">There are none.</p>
% end
% for row in files:
  <div class="file">
    <p><a href="{{row.href}}"><bdi>{{row.file.filename}}</bdi></a></p>
    <p class="quiet">
%   if row.size:
      {{row.size}} ·
%   end
%   if row.published:
      <time datetime="{{iso(row.published.when)}}">{{day(row.published.when)}}, {{row.published.when.strftime("%H:%M")}} UTC</time> by <bdi>{{row.published.who or "somebody without a login"}}</bdi> ·
%   elif row.file.uploaded:
      <time datetime="{{iso(row.file.uploaded)}}">{{day(row.file.uploaded)}}</time> ·
%   end
%   if row.file.requires_python:
      Python <bdi>{{row.file.requires_python}}</bdi> ·
%   end
      from {{row.origin}}
%   if row.file.core_metadata is not None:
      · <a href="{{row.href}}.metadata">metadata<span class="hidden"> of {{row.file.filename}}</span></a>
%   end
%   if row.file.has_signature:
      · <a href="{{row.href}}.asc">signature<span class="hidden"> of {{row.file.filename}}</span></a>
%   end
    </p>
%   if row.file.yanked is not None:
    <p><b class="mark">yanked</b> <bdi>{{row.file.yanked}}</bdi></p>
%   end
%   if row.digest:
    <pre data-copy class="digest">{{row.digest[0]}}:{{row.digest[1]}}</pre>
%   end
  </div>
% end
% if hidden:
  <details>
    <summary>{{"{:,} file{} hidden here".format(len(hidden) + more_hidden, " is" if len(hidden) + more_hidden == 1 else "s are")}}</summary>
    <ul class="list">
%   for one in hidden:
      <li><bdi>{{one.filename}}</bdi> <span class="quiet"><bdi>{{one.why}}</bdi></span></li>
%   end
%   if more_hidden:
      <li class="quiet">… and {{"{:,}".format(more_hidden)}} more</li>
%   end
    </ul>
  </details>
% end
</section>
</div>

<aside>
% if release or people or licence or links:
<section aria-labelledby="facts">
  <h2 id="facts">Facts</h2>
  <dl class="facts">
%   if release and release.uploaded:
    <dt>Uploaded</dt><dd><time datetime="{{iso(release.uploaded)}}">{{day(release.uploaded)}}</time></dd>
%   end
%   if release and release.python:
    <dt>Python</dt><dd><bdi>{{release.python}}</bdi></dd>
%   end
%   if licence:
    <dt>Licence</dt><dd><bdi>{{licence}}</bdi></dd>
%   end
%   if people:
    <dt>By</dt>
%     for person in people:
%       if person.mail:
    <dd><a href="mailto:{{person.mail}}"><bdi>{{person.name or person.mail}}</bdi></a></dd>
%       else:
    <dd><bdi>{{person.name}}</bdi></dd>
%       end
%     end
%   end
%   if keywords:
    <dt>Keywords</dt><dd><bdi>{{", ".join(keywords)}}</bdi></dd>
%   end
  </dl>
%   if links:
  <ul class="list">
%     for label, address in links:
    <li><a href="{{address}}" rel="nofollow noopener"><bdi>{{label}}</bdi></a></li>
%     end
  </ul>
%   end
</section>
% end

% if acts:
<section aria-labelledby="change">
  <h2 id="change">Change this release</h2>
  <ul class="acts">
%   for label, address in acts:
    <li><a href="{{address}}">{{label}}<span class="hidden"> {{name}} {{version}}</span></a></li>
%   end
  </ul>
</section>
% end

% if needed:
<section aria-labelledby="dependencies">
  <h2 id="dependencies">Dependencies</h2>
%   for group in needed:
%     if group.extra:
  <h3>With <code>[{{group.extra}}]</code></h3>
%     end
  <ul class="list">
%     for dependency, known in group.dependencies:
%       if known:
    <li><a href="{{root}}project/{{dependency.name}}/">{{dependency.name}}</a><bdi>{{dependency.text}}</bdi></li>
%       else:
    <li>{{dependency.name}}<bdi>{{dependency.text}}</bdi></li>
%       end
%     end
  </ul>
%   end
</section>
% end

<%
def rows(some):
%>
  <ul class="list versions">
%   for one in some:
    <li>
%     if one.version == version:
      <a href="{{one.href}}" aria-current="page"><bdi>{{one.version}}</bdi></a>
%     else:
      <a href="{{one.href}}"><bdi>{{one.version}}</bdi></a>
%     end
%     if one.yanked is not None:
      <b class="mark">yanked</b>
%     end
      <span class="quiet">
%     if one.uploaded:
        <time datetime="{{iso(one.uploaded)}}">{{day(one.uploaded)}}</time> ·
%     end
        {{one.size}}{{" · Python " + one.python if one.python else ""}}
      </span>
%     if one.yanked:
      <span class="quiet"><bdi>{{one.yanked}}</bdi></span>
%     end
    </li>
%   end
  </ul>
<% end %>
% if releases:
<section aria-labelledby="versions">
  <h2 id="versions">Versions</h2>
%   rows(releases[:8])
%   if len(releases) > 8:
  <details>
    <summary>{{"{:,}".format(len(releases) - 8)}} older</summary>
%     rows(releases[8:])
  </details>
%   end
</section>
% end
<p class="quiet"><a href="{{json}}">JSON</a> · <a href="{{simple}}">Simple page</a>
% if admin:
  · <a href="{{root}}-/admin/owners/{{project.name}}">Owners</a>
% end
</p>
</aside>
</div>
