<%
# The home page. Besides root, asset and query (see layout.tpl):
#   URL         this index's address as the browser sees it, with a slash at its end
#   VERSION     of pypiserver-lite          NUMPKGS     how many projects are here
#   PACKAGES    link to all files           SIMPLE      link to all projects
#   host        the address without scheme and path     secure      whether it begins with https
#   folders     whether the index has any   uploads     whether anybody may upload  login       actions that need a login, if anybody can log in
#   fallback    whether other names come from an upstream; mode: "redirect", "proxy" or "cache"
#   upstreams   addresses of the upstreams  traffic     None, or a dict: requests, received, cached, saved (bytes)
#   newest      the newest uploads, each with .name, .version and .uploaded (a datetime)
#   install, publish   lines to copy, each with .tool and .text
#   size        size(1000) is "1.0 kB"
#   indexes     at the root, the other indexes: each with .name, .title, .description, .href and .bases (names)
#   bases       what this index has the files of too: pairs of a name and a link
heading = "Python package index" if index_title == "Package index" else index_title
rebase("layout", title=heading)
%>
<h1>{{heading}}</h1>
% if index_description:
<p class="lead">{{index_description}}</p>
% end
<p class="{{"" if index_description else "lead"}}">
  <a href="search">{{"{:,}".format(NUMPKGS)}} project{{"" if NUMPKGS == 1 else "s"}}</a> here{{"" if fallback else ", and nothing else"}}.
% if fallback and mode == "redirect":
  For any other name, clients are sent to the upstream.
% elif fallback:
  Any other name comes through here from the upstream.
% end
</p>
% if bases:
<p>
  With all that is in
%   for at, (name, link) in enumerate(bases):
  <a href="{{link}}">{{name}}</a>{{"," if at < len(bases) - 1 else "."}}
%   end
</p>
% end

<div class="columns">
<div>
% if indexes:
<section aria-labelledby="indexes">
  <h2 id="indexes">Indexes</h2>
  <ul class="list">
%   for one in indexes:
    <li>
      <a href="{{one.href}}"><b>{{one.name}}</b></a> {{one.title}}
%     if one.description:
      <span class="quiet">{{one.description}}</span>
%     end
    </li>
%   end
  </ul>
</section>
% end

<section aria-labelledby="install">
  <h2 id="install">Install from here</h2>
  % include("lines", commands=install)
</section>

<section aria-labelledby="publish">
  <h2 id="publish">Publish here</h2>
% if uploads:
  % include("lines", commands=publish)
  <p><a href="-/upload">Upload in the browser</a></p>
% elif not folders:
  <p>Nothing is published here: this index has no folder of its own.</p>
% else:
  <p>Uploads are switched off: the server was started without a password file (<code>-P FILE</code>).</p>
% end
</section>
</div>

<aside>
<section aria-labelledby="newest">
  <h2 id="newest">Newest uploads</h2>
% if newest:
  <ul class="list">
%   for release in newest:
    <li>
      <a href="project/{{release.name}}/"><b>{{release.name}}</b> {{release.version}}</a>
      <time datetime="{{release.uploaded.isoformat(timespec="seconds")}}">{{release.uploaded.strftime("%d %b %Y")}}</time>
    </li>
%   end
  </ul>
% else:
  <p>Nothing yet.</p>
% end
</section>

% if upstreams:
<section aria-labelledby="upstream">
  <h2 id="upstream">Upstream</h2>
%   for address in upstreams:
  <p><a href="{{address}}" rel="nofollow noopener">{{address}}</a></p>
%   end
%   if mode == "redirect":
  <p>Clients are sent there.</p>
%   else:
  <p>It is asked for clients{{", and what it says is kept" if mode == "cache" else ""}}.</p>
%   end
%   if traffic:
  <p>Since the start: {{"{:,}".format(traffic["requests"])}} request{{"" if traffic["requests"] == 1 else "s"}}, {{size(traffic["received"])}} fetched, {{size(traffic["saved"])}} saved.</p>
%   end
</section>
% end
<p class="quiet version">pypiserver-lite {{VERSION}}</p>
</aside>
</div>
