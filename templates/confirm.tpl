<%
# What will happen, and the button that has it happen. Besides root, asset and query (see layout.tpl):
#   title, button    as what is done is called      means    what will happen, in paragraphs    things  what it happens to
#   fields   what is asked besides (see fields.tpl)
#   final    whether it cannot be undone            wrong    empty, or why it did not happen    back    link to go without
rebase("layout", title=title)
%>
<h1><bdi>{{title}}</bdi></h1>
% if wrong:
<p class="note" role="alert"><bdi>{{wrong[:1].upper() + wrong[1:]}}</bdi></p>
% end
% for paragraph in means:
<p class="text">{{paragraph}}</p>
% end
% if things:
<ul class="things">
%   for thing in things:
  <li><bdi>{{thing}}</bdi></li>
%   end
</ul>
% end
<form class="fields" method="post">
  <input type="hidden" name="csrf" value="{{csrf}}">
% include("fields", fields=fields)
  <p class="buttons"><button{{!' class="final"' if final else ""}}>{{button}}</button> <a href="{{back}}">Go back without it</a></p>
</form>
